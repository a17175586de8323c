// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/async_result.hpp>
#include <carom/detail/chunk.hpp>
#include <carom/detail/map_sender.hpp>
#include <carom/detail/task_entry.hpp>
#include <carom/export.hpp>
#include <carom/task_options.hpp>
#include <iterator>
#include <memory>
#include <ranges>
#include <vector>

namespace carom::detail {

class pool_handle;

CAROM_API segment_source* segments_of(pool_handle& pool) noexcept;
CAROM_API int processes_of(const pool_handle& pool) noexcept;
/// Keeps the pool's parts alive for lazy ranges.
CAROM_API std::shared_ptr<pool_handle> share(pool_handle& pool);
/// Gives the task to the pool, which takes a reference of its own. Throws pool_closed, queue_full.
CAROM_API void submit(pool_handle& pool, const task_ref& task);
/// Throws std::invalid_argument for options out of range.
CAROM_API void check_options(const task_options& options);
/// The same.
CAROM_API void set_options(task_node& task, task_options options);
/// Whether they say anything at all.
CAROM_API bool any_set(const task_options& options) noexcept;

template <class R>
struct made_task {
  task_ref task;
  async_result<R> handle;
};

template <class F, class... As>
auto make_task(pool_handle& pool, F&& f, As&&... args) {
  using function = std::decay_t<F>;
  static_assert(check_callable<function>::value);
  using task = single_task<function, As...>;
  using result = typename task::result;
  const function& fn = f;
  task_ref node(new task_node(task::type, segments_of(pool)));
  node->set_function(naming_address(fn, task::type.entry));
  function_codec<function>::pack(node->payload(), fn);
  pack_arguments<typename task::values>(node->payload(), std::forward<As>(args)...);
  auto handle = result_access::make<async_result, result>(node, &decode_value<result>);
  return made_task<result>{std::move(node), std::move(handle)};
}

/// billiard's rule: four chunks for each worker.
inline std::uint64_t chunk_size(const pool_handle& pool, std::uint64_t count, std::size_t chunk) {
  if (chunk) return chunk;
  const auto parts = 4 * static_cast<std::uint64_t>(processes_of(pool));
  return std::max<std::uint64_t>(1, (count + parts - 1) / parts);
}

template <bool Star, class F, class Range>
auto submit_map(pool_handle& pool, const task_options& options, F&& f, Range&& items,
                std::size_t chunk, bool stop_at_error) {
  using function = std::decay_t<F>;
  static_assert(check_callable<function>::value);
  const bool options_matter = any_set(options);
  if (options_matter) check_options(options);
  if constexpr (!std::ranges::forward_range<Range> && !std::ranges::sized_range<Range>) {
    // A single pass and no length: the length decides the chunks, so collect first.
    std::vector<std::ranges::range_value_t<Range>> collected;
    for (auto&& item : items) collected.push_back(std::forward<decltype(item)>(item));
    return submit_map<Star>(pool, options, std::forward<F>(f), collected, chunk, stop_at_error);
  } else {
    using packer = typename packer_for<Star, function, Range>::type;
    const function& fn = f;
    const auto count = static_cast<std::uint64_t>(std::ranges::distance(items));
    const std::uint64_t size = chunk_size(pool, count, chunk);
    const code_pointer naming = naming_address(fn, packer::task::type.entry);
    map_sender sender(pool, packer::task::type, naming, count, size, stop_at_error);
    auto it = std::ranges::begin(items);
    for (std::uint64_t done = 0; done < count; done += size) {
      const std::uint64_t n = std::min(size, count - done);
      task_node& node = sender.next(n);
      it = packer::pack(node.payload(), fn, std::move(it), n);
      if (options_matter) set_options(node, options);
      // Where packing an item may fail, none runs before all are packed.
      if constexpr (packer::template cannot_fail<decltype(it)>) sender.pass_on();
    }
    return sender.finish();
  }
}

template <bool Star, class F, class Range>
struct map_result {
  using type = typename packer_for<Star, std::decay_t<F>, Range>::type::task::result;
};

template <bool Star, class F, class Range>
auto map_async(pool_handle& pool, const task_options& options, F&& f, Range&& items,
               std::size_t chunk) {
  using result = typename map_result<Star, F, Range>::type;
  return result_access::make<async_result, map_value_t<result>>(
      submit_map<Star>(pool, options, std::forward<F>(f), items, chunk, true), &decode_map<result>);
}

template <class F, class Range>
auto try_map(pool_handle& pool, const task_options& options, F&& f, Range&& items,
             std::size_t chunk) {
  using value = typename map_result<false, F, Range>::type;
  return result_access::make<async_result, std::vector<result<value>>>(
             submit_map<false>(pool, options, std::forward<F>(f), items, chunk, false),
             &decode_try_map<value>)
      .get();
}

}  // namespace carom::detail

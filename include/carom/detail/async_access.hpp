// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/chunk.hpp>
#include <carom/detail/map_state.hpp>
#include <carom/detail/task_node.hpp>
#include <carom/detail/timeout.hpp>
#include <carom/result.hpp>
#include <functional>
#include <type_traits>

namespace carom::detail {

[[noreturn]] CAROM_API void throw_no_task();
[[noreturn]] CAROM_API void throw_get_timeout(const task_node& node);
/// Throws the exception of a settled task that failed or was discarded.
CAROM_API void throw_if_failed(const task_node& node);
CAROM_API bool successful(const task_node& node);
CAROM_API pid_t accepted_by(const task_node& node);
CAROM_API bool cancel(task_node& node);
CAROM_API bool terminate(task_node& node, int signal);
CAROM_API void discard(task_node& node);
/// Runs `f` once `node` is settled; logs what it throws.
CAROM_API void then(task_node& node, std::function<void(std::function<void()>)> where,
                    std::function<void()> f);

template <class R>
R decode_value(const task_node& node) {
  const descriptor_scope in_reach(node.payload().find_descriptors());
  if constexpr (!std::is_void_v<R>) return std::get<0>(decode<R>(node.payload().bytes()));
}

/// The element type of map's result, void for a map of void functions.
template <class R>
using map_value_t = std::conditional_t<std::is_void_v<R>, void, std::vector<R>>;

template <class R>
void append_values(const task_node& chunk, std::vector<R>& values);

template <class R>
map_value_t<R> decode_map(const task_node& parent) {
  const map_state& map = *parent.find_extra()->map;
  if constexpr (!std::is_void_v<R>) {
    std::vector<R> values;
    values.reserve(map.items);
    for (const task_ref& chunk : map.chunks) append_values(*chunk.get(), values);
    return values;
  }
}

template <class R>
void append_values(const task_node& chunk, std::vector<R>& values) {
  if constexpr (std::is_arithmetic_v<R> && !std::is_same_v<R, bool>) {
    each_record(chunk, [&](const chunk_record& record) {
      if (record.failed) std::rethrow_exception(chunk_error(record));
      if (record.bytes.size() / sizeof(R) != record.count || record.bytes.size() % sizeof(R))
        throw encoding_error("a chunk's values are cut short");
      const std::size_t had = values.size();
      values.resize(had + record.count);
      std::memcpy(values.data() + had, record.bytes.data(), record.bytes.size());
    });
  } else {
    read_chunk<R>(
        chunk, [&](R&& value) { values.push_back(std::move(value)); },
        [](std::exception_ptr error) { std::rethrow_exception(error); });
  }
}

template <class R>
std::vector<result<R>> decode_try_map(const task_node& parent) {
  std::vector<result<R>> outcomes;
  for (const task_ref& chunk : parent.find_extra()->map->chunks)
    read_chunk<R>(
        *chunk.get(),
        [&](auto&&... value) { outcomes.emplace_back(std::forward<decltype(value)>(value)...); },
        [&](std::exception_ptr error) { outcomes.emplace_back(std::move(error)); });
  return outcomes;
}

/// Makes handles: the one door into async_result's private constructor.
struct result_access {
  template <template <class> class Handle, class R>
  static Handle<R> make(task_ref task, R (*decoder)(const task_node&)) {
    return Handle<R>(std::move(task), decoder);
  }
};

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <carom/detail/task_entry.hpp>
#include <carom/detail/task_node.hpp>
#include <exception>
#include <ranges>
#include <span>
#include <tuple>
#include <vector>

namespace carom::detail {

/// A run of `map` items in a worker: says which items to run, and takes their outcomes. Outcomes
/// are published in runs, so that a death loses at most the last millisecond's.
class CAROM_API chunk_run {
 public:
  /// The chunk's payload: the function, the count, the items.
  std::span<const std::byte> arguments() const { return arguments_; }
  /// Items before this one have run already, in a worker that died.
  std::uint64_t first() const { return first_; }
  /// Where the packed values of finished items are collected.
  blob& values() { return *values_; }
  /// Told before an item runs; must be cheap.
  void begin(std::uint64_t item) {
    if (timed_) [[unlikely]]
      begin_timed(item);
    else
      cursor_->store(base_ | item, std::memory_order_relaxed);
  }
  /// Says how many items may run before the next call, at least 1. `done` items have finished.
  virtual std::uint64_t allowance(std::uint64_t done) = 0;
  /// Item `item` ended with the exception in flight. Says whether to go on with the next.
  virtual bool failed(std::uint64_t item) = 0;
  /// Items before `done` have finished and no others will.
  virtual void finished(std::uint64_t done) = 0;

 protected:
  chunk_run(std::span<const std::byte> arguments, std::uint64_t first, blob& values,
            std::atomic<std::uint64_t>* cursor, std::uint64_t base, bool timed)
      : arguments_(arguments),
        first_(first),
        values_(&values),
        cursor_(cursor),
        base_(base),
        timed_(timed) {}
  ~chunk_run() = default;

  /// Items have time limits: reads the clock, and does not return once the host has ended an item.
  virtual void begin_timed(std::uint64_t item) = 0;

 private:
  std::span<const std::byte> arguments_;
  std::uint64_t first_;
  blob* values_;
  std::atomic<std::uint64_t>* cursor_;
  std::uint64_t base_;
  bool timed_;
};

using chunk_entry = void (*)(chunk_run&);

template <class Tuple>
inline constexpr bool is_framed = false;
template <class... Ts>
inline constexpr bool is_framed<std::tuple<Ts...>> = stands_in_frame<Ts...>;

template <class F, class... As>
struct chunk_task {
  using invocation = invocation_of<F, As...>;
  using values = typename invocation::values;
  using result = std::remove_cv_t<typename invocation::result>;
  static_assert(invocation::ok);  // with a sentence of its own
  static_assert(check_result<result>::value);

  static void run(chunk_run& chunk) {
    auto in = chunk.arguments();
    if constexpr (is_function_pointer_v<F>) {
      F f = function_codec<F>::unpack_pointer(in);
      item_reader reader(in);
      run_items(f, reader, chunk);
    } else if constexpr (is_stateless_v<F>) {
      F f{};
      item_reader reader(in);
      run_items(f, reader, chunk);
    } else {
      item_reader reader(in);
      chunk.begin(chunk.first());  // with its function's unpacking
      F f = reader.next<F>();
      run_items(f, reader, chunk);
    }
  }

  static inline const task_type type{reinterpret_cast<code_pointer>(&run), typeid(F).name(), true};

 private:
  static constexpr bool in_frames = is_framed<values>;

  static values next_item(item_reader& reader) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      // Braces fix the order of evaluation.
      return values{reader.next<std::tuple_element_t<I, values>>()...};
    }
    (std::make_index_sequence<std::tuple_size_v<values>>{});
  }

  static values read_item(item_reader& reader, std::span<const std::byte> frame) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return reader.message<std::tuple_element_t<I, values>...>(frame);
    }
    (std::make_index_sequence<std::tuple_size_v<values>>{});
  }

  static void run_items(F& f, item_reader& reader, chunk_run& chunk) {
    const auto count = reader.next<std::uint64_t>();
    for (std::uint64_t skipped = 0; skipped < std::min(chunk.first(), count); ++skipped)
      if constexpr (in_frames)
        reader.next_frame();
      else
        next_item(reader);
    blob& out = chunk.values();
    std::uint64_t item = chunk.first();
    while (item < count) {
      const std::uint64_t stop = item + std::min(chunk.allowance(item), count - item);
      bool running = false;
      try {
        for (; item < stop; ++item) {
          running = false;
          if constexpr (in_frames) {
            // To unpack an item is part of running it: it may fail, crash, or take its time.
            const auto frame = reader.next_frame();
            running = true;
            chunk.begin(item);
            values v = read_item(reader, frame);
            run_item(f, v, out);
          } else {
            values v = next_item(reader);
            running = true;
            chunk.begin(item);
            run_item(f, v, out);
          }
        }
      } catch (...) {
        if (!running) {  // the chunk itself cannot be read
          chunk.finished(item);
          throw;
        }
        if (!chunk.failed(item)) return;
        ++item;
      }
    }
    chunk.finished(count);
  }

  static void run_item(F& f, values& v, [[maybe_unused]] blob& out) {
    if constexpr (std::is_void_v<result>)
      invocation::call(f, v);
    else
      append_value(out, static_cast<const result&>(invocation::call(f, v)));
  }
};

/// One run of outcomes in a settled chunk's payload.
struct chunk_record {
  std::uint64_t first;
  std::uint64_t count;
  std::uint64_t length;
  std::uint64_t failed;  // 0: `count` packed values follow; 1: one packed exception for all

  std::span<const std::byte> bytes;  // not on the wire
  static constexpr std::size_t header_size = 4 * sizeof(std::uint64_t);
};

CAROM_API void append_chunk_record(blob& out, const chunk_record& record);
/// Takes the next record off `in`. Throws encoding_error if it is cut short.
CAROM_API chunk_record next_chunk_record(std::span<const std::byte>& in);
/// The exception that a failed record carries.
CAROM_API std::exception_ptr chunk_error(const chunk_record& record);
CAROM_API std::exception_ptr settled_error(const task_node& node);

/// Packs items [it, it + count) as one chunk. `Star`: an item is a tuple of arguments.
template <bool Star, class F, class... As>
struct chunk_packer {
  using task = chunk_task<F, As...>;
  using values = typename task::values;

  static void begin(blob& out, const F& f, std::uint64_t count) {
    function_codec<F>::pack(out, f);
    encode(out, count);
  }
  /// The count behind which `bytes` ends, once it is known.
  static void set_count(std::span<std::byte> bytes, std::uint64_t count) {
    std::memcpy(bytes.last(sizeof count).data(), &count, sizeof count);
  }

  /// Throws what makes the item impossible to pack; the blob is then as before.
  template <class Item>
  static void add(blob& out, Item&& item) {
    if constexpr (is_framed<values>)
      put_frame(out, [&] { add_bare(out, std::forward<Item>(item)); });
    else
      add_bare(out, std::forward<Item>(item));
  }

  template <class Item>
  static void add_bare(blob& out, Item&& item) {
    if constexpr (Star)
      std::apply(
          [&](auto&&... as) { pack_arguments<values>(out, std::forward<decltype(as)>(as)...); },
          std::forward<Item>(item));
    else
      pack_arguments<values>(out, std::forward<Item>(item));
  }

  /// Whole runs of numbers are copied at once.
  template <class Iterator>
  static constexpr bool copies_whole = [] {
    if constexpr (!Star && std::contiguous_iterator<Iterator>)
      return std::is_arithmetic_v<std::iter_value_t<Iterator>> &&
             !std::is_same_v<std::iter_value_t<Iterator>, bool> &&
             std::is_same_v<std::tuple<std::iter_value_t<Iterator>>, values>;
    else
      return false;
  }();

  /// Whether all items can be packed if the first can: numbers that are there already.
  template <class Iterator>
  static constexpr bool cannot_fail = [] {
    if constexpr (!Star && std::contiguous_iterator<Iterator>)
      return std::is_arithmetic_v<std::iter_value_t<Iterator>> &&
             std::is_same_v<std::tuple<std::iter_value_t<Iterator>>, values> &&
             (is_function_pointer_v<F> || is_stateless_v<F>);
    else
      return false;
  }();

  template <class Iterator>
  static Iterator pack(blob& out, const F& f, Iterator it, std::uint64_t count) {
    begin(out, f, count);
    if constexpr (copies_whole<Iterator>) {
      out.append(std::to_address(it), count * sizeof(std::iter_value_t<Iterator>));
      return it + static_cast<std::iter_difference_t<Iterator>>(count);
    } else {
      for (std::uint64_t i = 0; i < count; ++i, ++it) add(out, *it);
      return it;
    }
  }
};

template <class Tuple, template <class...> class Template, class... Prefix>
struct apply_tuple;
template <class... As, template <class...> class Template, class... Prefix>
struct apply_tuple<std::tuple<As...>, Template, Prefix...> {
  using type = Template<Prefix..., As...>;
};
template <class A, class B, template <class...> class Template, class... Prefix>
struct apply_tuple<std::pair<A, B>, Template, Prefix...> {
  using type = Template<Prefix..., A, B>;
};

template <class F, class... As>
using map_packer = chunk_packer<false, F, As...>;
template <class F, class... As>
using starmap_packer = chunk_packer<true, F, As...>;

/// The packer for `map(f, range)` or, with Star, `starmap(f, range)`.
template <bool Star, class F, class Range>
struct packer_for {
  using type = map_packer<F, std::ranges::range_reference_t<Range>>;
};
template <class F, class Range>
struct packer_for<true, F, Range> {
  using type = typename apply_tuple<std::remove_cvref_t<std::ranges::range_reference_t<Range>>,
                                    starmap_packer, F>::type;
};

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/async_access.hpp>
#include <carom/detail/imap_window.hpp>
#include <carom/result.hpp>
#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <utility>

namespace carom {

/// The outcomes of `imap` and `imap_unordered` as a single-pass input range (billiard:
/// IMapIterator, IMapUnorderedIterator). Items are taken from the source only as outcomes are
/// asked for: a bounded number is under way. An item that failed, or cannot be packed, throws when
/// it is read; the range goes on after it. What the source throws comes out behind the items before
/// it and ends the range. A full pool (queue_full, overflow::reject) is an error only while no item
/// of this range is under way, and loses none. Move-only; for one thread at a time. Dropping it
/// lets what is under way finish unseen.
template <class R>
class imap_range {
 public:
  using value_type = typename result<R>::value_type;

  class iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = typename imap_range::value_type;

    iterator() = default;
    /// The item's value; throws the item's error.
    const value_type& operator*() const { return range_->current_->value(); }
    iterator& operator++() {
      range_->advance();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) { return it.at_end(); }

   private:
    friend imap_range;
    explicit iterator(imap_range* range) : range_(range) {}
    bool at_end() const { return !range_ || !range_->current_; }
    imap_range* range_ = nullptr;
  };

  /// Takes the first item; call it once.
  iterator begin() {
    advance();
    return iterator(this);
  }
  std::default_sentinel_t end() const noexcept { return std::default_sentinel; }

  /// The next item's value, or nothing at the end. Throws the item's error.
  std::optional<value_type> next() { return take(std::nullopt); }
  /// Throws timeout_error if no item is there in time; the item comes with a later call.
  template <class Rep, class Period>
  std::optional<value_type> next(std::chrono::duration<Rep, Period> timeout) {
    return take(detail::to_nanoseconds(timeout));
  }

  imap_range(detail::imap_window window) : window_(std::move(window)) {}
  imap_range(imap_range&&) noexcept = default;
  imap_range& operator=(imap_range&&) noexcept = default;

 private:
  void advance() {
    current_.reset();
    if (fill(std::nullopt)) {
      current_.emplace(std::move(ready_.front()));
      ready_.pop_front();
    }
  }

  std::optional<value_type> take(std::optional<std::chrono::nanoseconds> timeout) {
    if (!fill(timeout)) return std::nullopt;
    result<R> outcome = std::move(ready_.front());
    ready_.pop_front();
    return std::move(outcome).value();
  }

  bool fill(std::optional<std::chrono::nanoseconds> timeout) {
    while (ready_.empty()) {
      detail::imap_outcome next = window_.next(timeout);
      if (next.error) {
        ready_.emplace_back(std::move(next.error));
        break;
      }
      if (!next.chunk) return false;
      detail::read_chunk<R>(
          *next.chunk.get(),
          [&](auto&&... value) { ready_.emplace_back(std::forward<decltype(value)>(value)...); },
          [&](std::exception_ptr error) { ready_.emplace_back(std::move(error)); });
    }
    return true;
  }

  detail::imap_window window_;
  std::deque<result<R>> ready_;
  std::optional<result<R>> current_;
};

namespace detail {

/// The items of a range, packed chunk by chunk as they are wanted. It is not read on behind an
/// exception of its own.
template <class Packer, class F, class View>
struct imap_source {
  F f;
  View view;
  task_options options;
  std::optional<std::ranges::iterator_t<View>> at{};
  bool taken = false;  // the item at `at`

  imap_piece operator()(pool_handle& pool, std::size_t most) {
    imap_piece piece;
    try {
      // The count stands before the items and is known only after them.
      task_ref node = make_chunk(Packer::task::type, segments_of(pool),
                                 naming_address(f, Packer::task::type.entry), 0, false);
      blob& packed = node->payload();
      Packer::begin(packed, f, 0);
      const std::size_t head = packed.size();
      if (any_set(options)) set_options(*node.get(), options);
      piece.chunk = node;
      std::uint64_t& count = node->chunk()->count;
      try {
        while (count < most && !piece.error && more()) add(packed, count, piece.error);
      } catch (...) {
        piece.error = std::current_exception();
        piece.last = true;
      }
      Packer::set_count(std::span(packed.data(), head), count);
      if (count == 0) piece.chunk = {};
      if (count < most && !piece.error) piece.last = true;
    } catch (...) {
      piece = {{}, std::current_exception(), true};
    }
    return piece;
  }

 private:
  bool more() {
    if (!at)
      at.emplace(std::ranges::begin(view));
    else if (taken)
      ++*at;
    taken = false;
    return *at != std::ranges::end(view);
  }

  /// Takes the next item. That it cannot be packed is its own error.
  void add(blob& out, std::uint64_t& count, std::exception_ptr& error) {
    auto&& item = **at;
    taken = true;
    try {
      Packer::add(out, std::forward<decltype(item)>(item));
      ++count;
    } catch (...) {
      error = std::current_exception();
    }
  }
};

template <imap_order Order, class F, class Range>
auto make_imap(pool_handle& pool, const task_options& options, F&& f, Range&& items,
               std::size_t chunk) {
  using function = std::decay_t<F>;
  static_assert(check_callable<function>::value);
  if (any_set(options)) check_options(options);
  using view = std::views::all_t<Range>;
  using packer = typename packer_for<false, function, view>::type;
  using source = imap_source<packer, function, view>;
  auto shared = std::make_shared<source>(
      source{std::forward<F>(f), std::views::all(std::forward<Range>(items)), options});
  return imap_range<typename packer::task::result>(
      imap_window(share(pool), Order, chunk,
                  [shared](pool_handle& p, std::size_t n) { return (*shared)(p, n); }));
}

}  // namespace detail
}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/codec.hpp>
#include <carom/detail/handle_form.hpp>
#include <carom/detail/item_queue.hpp>
#include <carom/detail/timeout.hpp>
#include <carom/errors.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

namespace carom {

struct simple_queue_options {
  /// Bytes of items that may wait, rounded up to a power of two, at least 4096. An item takes its
  /// packed size and 8 bytes; what is larger than a quarter of this waits in memory of its own and
  /// takes 24.
  std::size_t capacity = std::size_t{1} << 20;
};

/// A queue in shared memory, without a server and without a thread: any number of producers and
/// consumers in any processes and threads put and get values of type T, each item goes to one of
/// them, first in first out (billiard: `SimpleQueue`).
///
/// A handle: copies, and what arrives as argument, result or message elsewhere, are the same queue,
/// as is the copy of a forked child. All functions are thread-safe. A process that dies inside of
/// any of them, however it dies, holds nobody up: what it had not put whole is not there, what it
/// had not taken is still there. Items that large, or that carry descriptors (handles inside of
/// them), wait outside of the ring: at most about 250 of those at once, and of the descriptors of
/// one item 250.
///
/// Errors: process_error where the queue is closed, or its memory was written over by somebody
/// ("corrupt": make a new one); encoding_error for an item that cannot be packed or unpacked, which
/// concerns that item only; std::system_error where the machine has no memory or descriptors left.
/// Waiting inside of a task is a checkpoint: soft_time_limit_exceeded.
template <class T>
class simple_queue {
  static_assert(detail::travels<T>());

 public:
  using value_type = T;

  /// Throws std::invalid_argument for a capacity of zero or beyond reason.
  explicit simple_queue(simple_queue_options options = {})
      : queue_(detail::item_queue::make(options.capacity)) {}
  // There is no move: a handle always names something.
  simple_queue(const simple_queue&) noexcept = default;
  simple_queue& operator=(const simple_queue&) noexcept = default;

  /// Appends `value`. Waits for as long as there is no room, or at most `time`: throws queue_full.
  void put(const T& value, detail::timeout time = std::nullopt) {
    detail::blob item = queue_->start_item();
    detail::encode(item, value);
    if (!queue_->put(item, time.limit())) detail::throw_no_room();
  }
  /// The same, and gives away what was put: handles in `value` are closed here. Where it throws,
  /// `value` is as before.
  void put(T&& value, detail::timeout time = std::nullopt) {
    put(std::as_const(value), time);
    detail::give_away(std::move(value));
  }
  /// Throws queue_full if there is no room now.
  void put_nowait(const T& value) { put(value, std::chrono::nanoseconds(0)); }
  void put_nowait(T&& value) { put(std::move(value), std::chrono::nanoseconds(0)); }

  /// Takes the oldest item. Waits until there is one, or at most `time`: throws queue_empty.
  T get(detail::timeout time = std::nullopt) {
    detail::blob item;
    if (!queue_->get(item, time.limit())) throw queue_empty();
    const detail::descriptor_scope in_reach(item.find_descriptors());
    return std::get<0>(detail::decode<T>(item.bytes()));
  }
  /// Throws queue_empty if there is nothing now.
  T get_nowait() { return get(std::chrono::nanoseconds(0)); }

  /// Puts an item that is packed already: `bytes` is what `get_payload` gave, here or elsewhere.
  /// Waits as `put`.
  void send_payload(std::span<const std::byte> bytes, detail::timeout time = std::nullopt) {
    if (!queue_->put_bytes(bytes, time.limit())) detail::throw_no_room();
  }
  /// Takes the oldest item without unpacking it; waits as `get`. Descriptors that travelled with it
  /// are closed.
  std::vector<std::byte> get_payload(detail::timeout time = std::nullopt) {
    detail::blob item;
    if (!queue_->get(item, time.limit())) throw queue_empty();
    return {item.bytes().begin(), item.bytes().end()};
  }

  /// Whether nothing waits; as true as it can be while others put and get.
  bool empty() const { return queue_->empty(); }
  /// Closes the queue for everybody: what is in it can still be taken, then `get` throws
  /// process_error, as `put` does at once; who waits is woken. Closing again does nothing.
  void close() { queue_->close(); }
  bool closed() const noexcept { return queue_->closed(); }
  /// Bytes of items that may wait.
  std::size_t capacity() const noexcept { return queue_->capacity(); }

 private:
  friend struct detail::handle_access;
  explicit simple_queue(std::shared_ptr<detail::item_queue> queue) : queue_(std::move(queue)) {}
  void pack(detail::byte_writer& out) const { queue_->pack(out); }
  static simple_queue unpack(detail::byte_reader& in) {
    return simple_queue(detail::item_queue::unpack(in));
  }

  std::shared_ptr<detail::item_queue> queue_;
};

template <class T>
struct detail::form<simple_queue<T>> : detail::handle_form<simple_queue<T>> {};

}  // namespace carom

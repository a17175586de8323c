// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/async_access.hpp>
#include <carom/detail/codec.hpp>
#include <carom/detail/handle_form.hpp>
#include <carom/detail/queue_access.hpp>
#include <carom/errors.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>

namespace carom {

struct queue_actor_access;

/// A queue of values between threads, processes, pool tasks and actors (billiard: `Queue`).
///
/// Its host is an event loop in the process that makes it. The object is a handle: copies mean the
/// same queue, and it travels: as an argument or result of tasks and processes, in messages, in
/// another queue. Each process that uses it has a channel of its own, also after a plain fork(). A
/// child of start_method::fork does not inherit the handles: using them throws process_error, pass
/// them as arguments.
///
/// Any number of processes and threads put and get. What one process puts is got in that order, and
/// whoever waits gets the oldest item there is. A dead process takes nothing along but what it had
/// taken: an item on its way to it goes to the next, and what it was putting is there whole or not
/// at all. A process that is stopped for 250 ms while others wait loses its turn in the same way.
///
/// The first queue of a process starts carom's loop, a thread: it is made behind `carom::init`.
/// The queue lives as long as the process that made it, and there as long as any process has a
/// handle of it. When its host is gone, every operation throws process_error.
///
/// Values travel packed, as arguments of tasks do. Up to 64 KiB they pass through shared memory;
/// larger ones in memory of their own, which is not copied on the way.
///
/// Thread-safe: threads of a process may use one handle at once. In a task, waits end with
/// soft_time_limit_exceeded once the task's soft limit has passed. On carom's loop thread (in
/// callbacks) everything works that need not wait; what would have to is a process_error.
template <class T>
class queue {
 public:
  using value_type = T;

  /// A queue of at most `maxsize` items, 0: of any number (billiard: 0 means about 32,767). Throws
  /// std::invalid_argument for less, std::system_error where the process has no descriptor or
  /// thread left.
  explicit queue(std::int64_t maxsize = 0) : queue(maxsize, false) {}

  /// Puts a value behind the others; waits while the queue is full. Throws process_error if this
  /// process has closed the queue, or its host is gone; encoding_error if the value cannot be
  /// packed.
  void put(const T& value) { put_until(value, {}); }
  /// The same, and gives away what was put: handles in `value` are closed here. Where it throws,
  /// `value` is as before; so below.
  void put(T&& value) { put_until(std::move(value), {}); }
  /// The same; throws queue_full if there is no room within `timeout`: of zero or less, as
  /// put_nowait does.
  template <class Rep, class Period>
  void put(const T& value, std::chrono::duration<Rep, Period> timeout) {
    put_until(value, {.timeout = detail::to_nanoseconds(timeout)});
  }
  template <class Rep, class Period>
  void put(T&& value, std::chrono::duration<Rep, Period> timeout) {
    put_until(std::move(value), {.timeout = detail::to_nanoseconds(timeout)});
  }
  /// The same; throws queue_full if there is no room now, or the host does not say so within a
  /// second.
  void put_nowait(const T& value) { put_until(value, {.now = true}); }
  void put_nowait(T&& value) { put_until(std::move(value), {.now = true}); }

  /// Takes the oldest value; waits for one. Throws process_error if the queue's host is gone, or
  /// this process has closed the queue and nothing is there; encoding_error if what was put is no
  /// T, or this process has no descriptor free for a handle in it: it is taken all the same.
  T get() { return get_until({}); }
  /// The same; throws queue_empty if nothing is there within `timeout`: of zero or less, as
  /// get_nowait does.
  template <class Rep, class Period>
  T get(std::chrono::duration<Rep, Period> timeout) {
    return get_until({.timeout = detail::to_nanoseconds(timeout)});
  }
  /// The same; throws queue_empty if nothing is there now, or the host does not say so within a
  /// second. An item that is on its way to somebody who waits for it is his.
  T get_nowait() { return get_until({.now = true}); }

  /// How many values have been put and not taken. Exact when it is asked, old when it is known.
  std::uint64_t qsize() const { return detail::queue_size(access()); }
  bool empty() const { return qsize() == 0; }
  /// Whether a bounded queue has as many values as it may.
  bool full() const { return maxsize() != 0 && qsize() >= maxsize(); }
  /// 0: no bound.
  std::uint64_t maxsize() const { return detail::queue_maxsize(access()); }

  /// This process puts nothing more: `put` throws process_error from now on, also in threads that
  /// wait in it. What it has put is delivered. `get` takes what is there; where it would wait, and
  /// in threads that do so now, it throws process_error. Other processes go on.
  void close() { detail::queue_close(access()); }
  /// After close(): waits until all that this process has put has reached the host. That is the
  /// case at once unless the host is busy or stopped; after 30 seconds, or `timeout`, it throws
  /// timeout_error. There is no thread to join (billiard has one, hence the name). Throws
  /// process_error before close().
  void join_thread() { join_thread(std::chrono::seconds(30)); }
  template <class Rep, class Period>
  void join_thread(std::chrono::duration<Rep, Period> timeout) {
    detail::queue_join_thread(access(), {.timeout = detail::to_nanoseconds(timeout)});
  }
  /// Lets join_thread() return at once. Nothing is lost by it (billiard may lose items), and a
  /// process that ends never waits for a queue, with or without it.
  void cancel_join_thread() { detail::queue_cancel_join_thread(access()); }

  /// Whether both handles mean the same queue.
  friend bool operator==(const queue& a, const queue& b) {
    return detail::queue_id(a.access()) == detail::queue_id(b.access());
  }

 protected:
  friend struct detail::handle_access;
  friend struct queue_actor_access;

  queue(std::int64_t maxsize, bool joinable) : handle_(detail::make_queue(maxsize, joinable)) {
    static_assert(detail::travels<T>());
  }
  explicit queue(std::shared_ptr<detail::queue_handle> handle) : handle_(std::move(handle)) {}

  void pack(detail::byte_writer& out) const { detail::pack_queue(out, access()); }
  static queue unpack(detail::byte_reader& in) { return queue(detail::unpack_queue(in, false)); }

  void put_until(const T& value, const detail::queue_wait& until) {
    detail::blob packed = detail::queue_item_blob();
    detail::encode(packed, value);
    if (!detail::queue_put(access(), packed, until)) throw queue_full();
  }
  void put_until(T&& value, const detail::queue_wait& until) {
    put_until(std::as_const(value), until);
    detail::give_away(std::move(value));
  }
  T get_until(const detail::queue_wait& until) {
    detail::queue_received item;
    if (!detail::queue_get(access(), item, until)) throw queue_empty();
    const detail::descriptor_scope in_reach(&item.descriptors);
    return std::get<0>(detail::decode<T>(item.bytes()));
  }

  detail::queue_handle& access() const {
    if (!handle_) detail::throw_no_queue();
    return *handle_;
  }

  std::shared_ptr<detail::queue_handle> handle_;
};

/// A queue that knows when the work on its items is done (billiard: `JoinableQueue`).
template <class T>
class joinable_queue : public queue<T> {
 public:
  /// As of `queue`.
  explicit joinable_queue(std::int64_t maxsize = 0) : queue<T>(maxsize, true) {}

  /// The work on one item that was got is done; any process may say so, once for each item. Throws
  /// process_error if that has been said for all that were put.
  void task_done() { detail::queue_task_done(this->access()); }
  /// Waits until the work on all items is done. Whoever is killed between `get` and `task_done`
  /// leaves it undone for ever: wait with a time-out where that may happen.
  void join() { (void)detail::queue_join(this->access(), {}); }
  /// The same; false if `timeout` passes first.
  template <class Rep, class Period>
  [[nodiscard]] bool join(std::chrono::duration<Rep, Period> timeout) {
    return detail::queue_join(this->access(), {.timeout = detail::to_nanoseconds(timeout)});
  }

 private:
  friend struct detail::handle_access;

  explicit joinable_queue(std::shared_ptr<detail::queue_handle> handle)
      : queue<T>(std::move(handle)) {}
  static joinable_queue unpack(detail::byte_reader& in) {
    return joinable_queue(detail::unpack_queue(in, true));
  }
};

template <class T>
struct detail::form<queue<T>> : detail::handle_form<queue<T>> {};
template <class T>
struct detail::form<joinable_queue<T>> : detail::handle_form<joinable_queue<T>> {};

}  // namespace carom

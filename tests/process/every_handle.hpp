// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/connection.hpp>
#include <carom/queue.hpp>
#include <carom/shared.hpp>
#include <carom/shared_heap.hpp>
#include <carom/simple_queue.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "tests/process/support.hpp"

namespace carom::test {

/// Of each kind of handle: how to make one, how to leave a mark by it, and how to find that out by
/// another handle of the same object. Whoever leaves a mark ends soon after.
template <class H>
struct marked;

/// A lock is marked by an owner that ends without a release.
template <class H>
struct marked_by_a_death {
  static H make() { return H(); }
  static void mark(H& h) { h.acquire(std::chrono::seconds(10)); }
  static bool found(H& h) {
    const auto how = h.acquire(std::chrono::seconds(10));
    if (how) h.release();
    return how.abandoned();
  }
};

template <>
struct marked<lock> : marked_by_a_death<lock> {};
template <>
struct marked<rlock> : marked_by_a_death<rlock> {};
template <>
struct marked<condition> : marked_by_a_death<condition> {};
template <>
struct marked<object_lock> : marked_by_a_death<object_lock> {
  static object_lock make() { return value<int>().get_lock(); }
};
template <>
struct marked<semaphore> {
  static semaphore make() { return semaphore(0); }
  static void mark(semaphore& h) { h.release(); }
  static bool found(semaphore& h) { return h.acquire(std::chrono::seconds(10)); }
};
template <>
struct marked<bounded_semaphore> {
  static bounded_semaphore make() { return bounded_semaphore(1); }
  static void mark(bounded_semaphore& h) { h.acquire(std::chrono::seconds(0)); }
  static bool found(bounded_semaphore& h) {
    const bool taken = h.get_value() == 0;
    if (taken) h.release();
    return taken;
  }
};
template <>
struct marked<event> {
  static event make() { return event(); }
  static void mark(event& h) { h.set(); }
  static bool found(event& h) {
    const bool set = h.is_set();
    h.clear();
    return set;
  }
};
template <>
struct marked<barrier> {
  static barrier make() { return barrier(2); }
  static void mark(barrier& h) { h.abort(); }
  static bool found(barrier& h) {
    const bool broken = h.broken();
    h.reset();
    return broken;
  }
};
template <>
struct marked<value<int>> {
  static value<int> make() { return value<int>(0); }
  static void mark(value<int>& h) { h.set(7); }
  static bool found(value<int>& h) { return h.exchange(0) == 7; }
};
template <>
struct marked<array<int>> {
  static array<int> make() { return array<int>(3); }
  static void mark(array<int>& h) { h.set(2, 7); }
  static bool found(array<int>& h) {
    const bool there = h.get(2) == 7;
    h.set(2, 0);
    return there;
  }
};
template <>
struct marked<shared_buffer> {
  static shared_buffer make() { return shared_buffer(10'000); }
  static void mark(shared_buffer& h) { h.as<char>()[9'999] = 'x'; }
  static bool found(shared_buffer& h) { return std::exchange(h.as<char>()[9'999], '\0') == 'x'; }
};
template <>
struct marked<shared_heap> {
  static shared_heap make() { return shared_heap(64 * 1024); }
  static void mark(shared_heap& h) { h.make<int>("mark", 7); }
  static bool found(shared_heap& h) { return h.find<int>("mark") && h.destroy<int>("mark"); }
};

/// Small and large items, and such with descriptors.
template <class Queue, class Item>
struct marked_by_items {
  static Queue make() { return Queue(); }
  static void mark(Queue& h) {
    h.put({"small", event()});
    h.put({std::string(300'000, 'l'), event()});
  }
  static bool found(Queue& h) {
    const Item small = h.get(std::chrono::seconds(10));
    const Item large = h.get(std::chrono::seconds(10));
    return small.first == "small" && large.first.size() == 300'000 && !large.second.is_set();
  }
};
using queue_item = std::pair<std::string, event>;
template <>
struct marked<simple_queue<queue_item>> : marked_by_items<simple_queue<queue_item>, queue_item> {};
template <>
struct marked<queue<queue_item>> : marked_by_items<queue<queue_item>, queue_item> {};
template <>
struct marked<joinable_queue<queue_item>>
    : marked_by_items<joinable_queue<queue_item>, queue_item> {};

/// The other end stays with who makes it.
inline std::optional<connection> other_end;
template <>
struct marked<connection> {
  static connection make() {
    auto [mine, its] = pipe();
    other_end = std::move(mine);
    return std::move(its);
  }
  static void mark(connection& h) { h.send(7); }
  static bool found(connection&) { return other_end->recv<int>(std::chrono::seconds(10)) == 7; }
};

/// Calls `f.operator()<H>(name)` for each kind of handle.
template <class F>
void for_each_memory_handle(F f) {
  f.template operator()<lock>("lock");
  f.template operator()<rlock>("rlock");
  f.template operator()<condition>("condition");
  f.template operator()<object_lock>("object_lock");
  f.template operator()<semaphore>("semaphore");
  f.template operator()<bounded_semaphore>("bounded_semaphore");
  f.template operator()<event>("event");
  f.template operator()<barrier>("barrier");
  f.template operator()<value<int>>("value");
  f.template operator()<array<int>>("array");
  f.template operator()<shared_buffer>("shared_buffer");
  f.template operator()<shared_heap>("shared_heap");
  f.template operator()<simple_queue<queue_item>>("simple_queue");
}
template <class F>
void for_each_channel_handle(F f) {
  f.template operator()<queue<queue_item>>("queue");
  f.template operator()<joinable_queue<queue_item>>("joinable_queue");
  f.template operator()<connection>("connection");
  other_end.reset();
}
template <class F>
void for_each_handle(F f) {
  for_each_memory_handle(f);
  for_each_channel_handle(f);
}

/// A handle to give away, by one that stays usable.
template <class H>
H another(const H& h) {
  if constexpr (requires { h.duplicate(); })
    return h.duplicate();
  else
    return h;
}

/// The exit code of a process that is not 0 where it failed.
template <class... As>
int run_process(start_method method, As&&... args) {
  process one({.start_method = method}, std::forward<As>(args)...);
  one.start();
  one.join();
  return one.exitcode().value_or(-1000);
}

// What processes do with a handle.

template <class H>
void leave_mark(H h) {
  marked<H>::mark(h);
}
/// Through `deep` more processes.
template <class H>
void pass_on(H h, int deep, start_method method) {
  const int code = deep == 0 ? run_process(method, leave_mark<H>, std::move(h))
                             : run_process(method, pass_on<H>, std::move(h), deep - 1, method);
  if (code != 0) std::exit(code);
}
template <class H>
H give_back(H h) {
  return h;
}
template <class H>
void send_back(H h, connection to) {
  to.send(std::move(h));
}

}  // namespace carom::test

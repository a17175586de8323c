// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <carom/errors.hpp>
#include <carom/this_task.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>

#include "runtime/futex.hpp"
#include "runtime/item_ring.hpp"
#include "runtime/robust_mutex.hpp"
#include "runtime/worker_identity.hpp"

namespace carom::runtime {

/// One of the two sides of a queue, for who waits on it: a position that the other side moves, and
/// whether anybody sleeps until it does.
struct moving_place {
  std::atomic<std::uint64_t>& position;
  std::atomic<std::uint32_t>& sleepers;

  /// Its low half, which changes whenever it moves.
  const std::atomic<std::uint32_t>& word() const noexcept {
    static_assert(std::endian::native == std::endian::little);
    return reinterpret_cast<const std::atomic<std::uint32_t>&>(position);
  }

  /// After it was moved: one sleeper gets to know. Who moves stores the position and looks for
  /// sleepers, who waits says so and looks at the position, in one order that all agree on.
  void notify_one() const noexcept {
    if (sleepers.load(std::memory_order_seq_cst) != 0 &&
        sleepers.exchange(0, std::memory_order_seq_cst) != 0)
      futex_wake_one_shared(word());
  }
  void notify_all() const noexcept {
    sleepers.store(0, std::memory_order_seq_cst);
    futex_wake_all_shared(word());
  }

  bool moved(std::uint64_t from) const noexcept {
    return position.load(std::memory_order_seq_cst) != from;
  }

  /// A wake-up costs more than most waits last.
  bool spin(std::uint64_t from) const noexcept {
    static const bool useful = std::thread::hardware_concurrency() > 1;
    if (!useful) return false;
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
    do {
      for (int i = 0; i < 64; ++i) {
        if (moved(from)) return true;
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
      }
    } while (std::chrono::steady_clock::now() < until);
    return false;
  }
};

/// A call that waits, over its attempts.
class waiter {
 public:
  using clock = std::chrono::steady_clock;
  using deadline = std::optional<clock::time_point>;

  /// Nothing is for ever.
  explicit waiter(std::optional<std::chrono::nanoseconds> patience) : patience_(patience) {}

  /// How long the attempt may wait for the lock; made at the first that needs it.
  deadline for_lock() {
    start();
    if (!until_) return until_;
    return std::max(*until_, begun_ + lock_patience);
  }

  /// Waits until `place` has moved on, or a while. False if the time is over.
  bool wait(const moving_place& place, std::uint64_t from, const std::atomic<ring_state>& state) {
    if (patience_ && patience_->count() <= 0) return false;
    this_task::checkpoint();
    start();
    // Also of a place that moves all the time, though never far enough.
    if (until_ && *until_ <= clock::now()) {
      if (slept_) place.notify_one();  // this one was perhaps woken for what it does not take
      return false;
    }
    if (!slept_ && place.spin(from)) return true;
    // Set before the look that decides: who moves the place after that look sees it. Also by who
    // has slept already: the one who woke it took the mark away, and others may still sleep.
    place.sleepers.store(1, std::memory_order_seq_cst);
    slept_ = true;
    if (place.moved(from) || state.load(std::memory_order_seq_cst) != ring_state::open) return true;
    const auto end = clock::now() + slice_;
    futex_wait_shared(place.word(), static_cast<std::uint32_t>(from),
                      until_ ? std::min(*until_, end) : end);
    // A soft limit's signal may reach another thread of the task's process.
    slice_ = running().key.load(std::memory_order_relaxed) != 0 ? first_slice
                                                                : std::min(2 * slice_, last_slice);
    place.sleepers.store(1, std::memory_order_seq_cst);
    try {
      this_task::checkpoint();
    } catch (...) {
      place.notify_one();  // this one was perhaps woken for what it will not take
      throw;
    }
    return true;
  }

  bool slept() const noexcept { return slept_; }

 private:
  void start() {
    if (begun_ != clock::time_point{}) return;
    begun_ = clock::now();
    if (patience_ && *patience_ <= clock::time_point::max() - begun_) until_ = begun_ + *patience_;
  }

  /// Whoever should wake us may have died between its change and its wake.
  static constexpr std::chrono::nanoseconds first_slice = std::chrono::milliseconds(10),
                                            last_slice = std::chrono::milliseconds(200);
  /// Whoever holds a lock of the queue gives it back soon, dead or alive: who will not wait for an
  /// item waits for that.
  static constexpr std::chrono::nanoseconds lock_patience = std::chrono::milliseconds(100);

  std::optional<std::chrono::nanoseconds> patience_;
  clock::time_point begun_{};
  deadline until_;
  std::chrono::nanoseconds slice_ = first_slice;
  bool slept_ = false;
};

/// Holds one side's lock for an attempt.
class side_guard {
 public:
  side_guard(robust_mutex& mutex, waiter& call) : mutex_(mutex), outcome_(mutex.try_lock()) {
    if (outcome_ == lock_outcome::timed_out) outcome_ = mutex_.lock_until(call.for_lock());
    if (outcome_ == lock_outcome::deadlock)
      throw process_error("a queue is used in a signal handler that has interrupted its use");
  }
  side_guard(const side_guard&) = delete;
  side_guard& operator=(const side_guard&) = delete;
  ~side_guard() {
    if (held()) mutex_.unlock();
  }
  bool held() const noexcept { return holds(outcome_); }
  bool abandoned() const noexcept { return outcome_ == lock_outcome::abandoned; }

 private:
  robust_mutex& mutex_;
  lock_outcome outcome_;
};

}  // namespace carom::runtime

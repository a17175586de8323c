// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <atomic>
#include <carom/this_task.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

namespace carom::runtime {

/// Whether this thread's process runs a task with a soft limit, so that waits must look up often.
bool waits_in_task() noexcept;

/// Waiting for a change in memory that processes share, by its futex word, in slices: who was to
/// wake us may have been killed between its change and its wake, so nobody sleeps longer than a
/// slice without a look. Slices grow from `shortest` to `longest`.
class sliced_wait {
 public:
  using clock = std::chrono::steady_clock;
  static constexpr std::chrono::nanoseconds shortest = std::chrono::milliseconds(10);

  /// `time`: nothing is for ever.
  explicit sliced_wait(std::optional<std::chrono::nanoseconds> time,
                       std::chrono::nanoseconds longest = std::chrono::milliseconds(200));

  /// Sleeps while `word` is `expected`, until woken, and for one slice at most. False, at once, if
  /// the time is over. Throws soft_time_limit_exceeded in a task that has passed its limit.
  bool sleep(const std::atomic<std::uint32_t>& word, std::uint32_t expected);

 private:
  std::optional<clock::time_point> deadline_;
  std::chrono::nanoseconds slice_ = shortest;
  std::chrono::nanoseconds longest_;
};

/// When `time` from now is over.
std::optional<std::chrono::steady_clock::time_point> deadline_in(
    std::optional<std::chrono::nanoseconds> time);

/// Waits within this process until `done`; false if the time is over. In a task a checkpoint, where
/// the lock is free: throws soft_time_limit_exceeded.
template <class Done>
bool wait_in_slices(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                    std::optional<std::chrono::steady_clock::time_point> deadline, Done done) {
  while (!done()) {
    if (deadline && std::chrono::steady_clock::now() >= *deadline) return false;
    auto until = deadline;
    if (waits_in_task()) {
      lock.unlock();  // what is registered for that moment may come here too
      this_task::checkpoint();
      lock.lock();
      if (done()) return true;
      until = std::chrono::steady_clock::now() + sliced_wait::shortest;
      if (deadline) until = std::min(until, deadline);
    }
    if (until)
      changed.wait_until(lock, *until);
    else
      changed.wait(lock);
  }
  return true;
}

/// A futex word that changes when something has happened, and that costs who changes it no system
/// call while nobody sleeps on it. A sleeper first takes a ticket, then looks whether it has to
/// sleep at all, and sleeps on the ticket. The mark of a sleeper that died is gone with the next
/// change.
class shared_gate {
 public:
  std::uint32_t ticket() noexcept {
    const std::uint32_t now = changes_.load(std::memory_order_seq_cst);
    asleep_.store(1, std::memory_order_seq_cst);
    return now;
  }
  const std::atomic<std::uint32_t>& word() const noexcept { return changes_; }
  /// After the change itself: wakes all. Who is woken and dies has taken nobody's wake-up.
  void changed() noexcept;

 private:
  std::atomic<std::uint32_t> changes_{0};
  std::atomic<std::uint32_t> asleep_{0};
};

}  // namespace carom::runtime

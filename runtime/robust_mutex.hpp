// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <pthread.h>

#include <chrono>
#include <cstdint>
#include <optional>

namespace carom::runtime {

/// How an attempt to take a robust mutex ended. Of these, `acquired` and `abandoned` hold it.
enum class lock_outcome : std::uint8_t {
  acquired,
  abandoned,  ///< held now; its former owner died while it held it: what it guards may be half done
  timed_out,  ///< somebody else has it
  deadlock,   ///< this thread has it already
};

inline bool holds(lock_outcome outcome) noexcept {
  return outcome == lock_outcome::acquired || outcome == lock_outcome::abandoned;
}

/// A mutex in memory that processes share, built in place there by the one who makes the memory,
/// and never destroyed: the memory just goes. Its owner is a thread; when that dies, however it
/// dies, the kernel frees the mutex and the next owner is told. It is made consistent by that, so
/// it never becomes unusable. The memory must stay mapped where it is while this thread holds it.
/// Locking and unlocking what nobody else wants makes no system call.
class robust_mutex {
 public:
  using clock = std::chrono::steady_clock;

  /// Throws std::system_error.
  robust_mutex();
  robust_mutex(const robust_mutex&) = delete;
  robust_mutex& operator=(const robust_mutex&) = delete;

  /// Never waits. Throws process_error if the memory is corrupt, as all that take the mutex.
  lock_outcome try_lock() {
    const int error = ::pthread_mutex_trylock(&mutex_);
    return error == 0 ? lock_outcome::acquired : judge(error);
  }

  /// Waits for as long as it takes, whatever the task's limits say: for short sections, where
  /// giving up half-way would be worse. Never `timed_out`.
  lock_outcome lock() {
    const lock_outcome first = try_lock();
    return first == lock_outcome::timed_out ? wait(std::nullopt, false) : first;
  }

  /// Waits until the deadline, none is for ever. Inside a task it is a checkpoint too: throws
  /// soft_time_limit_exceeded.
  lock_outcome lock_until(std::optional<clock::time_point> deadline) {
    const lock_outcome first = try_lock();
    return first == lock_outcome::timed_out ? wait(deadline, true) : first;
  }

  /// Whether its owner has died and nobody has taken it since. Never waits, takes nothing.
  bool owner_is_dead() const noexcept;

  /// False if this thread does not hold it; nothing has happened then.
  bool unlock() noexcept { return ::pthread_mutex_unlock(&mutex_) == 0; }

 private:
  lock_outcome judge(int error);
  lock_outcome wait(std::optional<clock::time_point> deadline, bool checkpoints);

  pthread_mutex_t mutex_;
};

/// Holds a robust mutex for a short section. Throws what `lock` throws, and process_error if this
/// thread has it already.
class robust_guard {
 public:
  explicit robust_guard(robust_mutex& mutex);
  robust_guard(const robust_guard&) = delete;
  robust_guard& operator=(const robust_guard&) = delete;
  ~robust_guard() { mutex_.unlock(); }

  /// Whether the owner before died inside: what the mutex guards wants a look.
  bool abandoned() const noexcept { return abandoned_; }

 private:
  robust_mutex& mutex_;
  bool abandoned_;
};

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include "runtime/robust_mutex.hpp"

#include <linux/futex.h>
#include <time.h>

#include <algorithm>
#include <carom/errors.hpp>
#include <carom/this_task.hpp>
#include <cerrno>
#include <string>
#include <system_error>
#include <type_traits>

#include "runtime/sliced_wait.hpp"

namespace carom::runtime {
namespace {

using namespace std::chrono_literals;

static_assert(std::is_standard_layout_v<robust_mutex> &&
              std::is_trivially_destructible_v<robust_mutex>);

/// Who was to wake us may have died between its change and its wake: nobody sleeps longer than that
/// without a look. In a task the look is also for the soft limit, whose signal does not end this
/// wait.
constexpr std::chrono::nanoseconds first_slice = 10ms, last_slice = 200ms, task_slice = 10ms;

/// GCC 12's ThreadSanitizer does not know pthread_mutex_clocklock.
#ifdef __SANITIZE_THREAD__
constexpr bool on_wall_clock = true;
#else
constexpr bool on_wall_clock = false;
#endif

template <class TimePoint>
timespec to_timespec(TimePoint at) {
  const auto ns = std::max<std::int64_t>(
      0, std::chrono::duration_cast<std::chrono::nanoseconds>(at.time_since_epoch()).count());
  return {ns / 1'000'000'000, ns % 1'000'000'000};
}

int lock_for(pthread_mutex_t& mutex, std::chrono::nanoseconds time) {
  if constexpr (on_wall_clock) {
    const timespec until = to_timespec(std::chrono::system_clock::now() + time);
    return ::pthread_mutex_timedlock(&mutex, &until);
  } else {
    const timespec until = to_timespec(std::chrono::steady_clock::now() + time);
    return ::pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until);
  }
}

struct attributes {
  attributes() {
    check(::pthread_mutexattr_init(&value));
    check(::pthread_mutexattr_setpshared(&value, PTHREAD_PROCESS_SHARED));
    check(::pthread_mutexattr_setrobust(&value, PTHREAD_MUTEX_ROBUST));
    // Who locks twice or unlocks what it has not is told so.
    check(::pthread_mutexattr_settype(&value, PTHREAD_MUTEX_ERRORCHECK));
  }
  ~attributes() { ::pthread_mutexattr_destroy(&value); }

  static void check(int error) {
    if (error != 0) throw std::system_error(error, std::generic_category(), "robust mutex");
  }

  pthread_mutexattr_t value;
};

}  // namespace

robust_mutex::robust_mutex() {
  const attributes wanted;
  attributes::check(::pthread_mutex_init(&mutex_, &wanted.value));
}

bool robust_mutex::owner_is_dead() const noexcept {
  // The futex word of a robust list, which the kernel marks at its owner's death (see the kernel's
  // Documentation/locking/robust-futex-ABI), is where glibc's headers say.
  return (__atomic_load_n(&mutex_.__data.__lock, __ATOMIC_RELAXED) & FUTEX_OWNER_DIED) != 0;
}

lock_outcome robust_mutex::judge(int error) {
  switch (error) {
    case EOWNERDEAD: ::pthread_mutex_consistent(&mutex_); return lock_outcome::abandoned;
    case EBUSY:
    case ETIMEDOUT: return lock_outcome::timed_out;
    case EDEADLK: return lock_outcome::deadlock;
    default:
      throw process_error("a lock in shared memory is corrupt (" +
                          std::generic_category().message(error) +
                          "): another process has written over it; make a new one");
  }
}

lock_outcome robust_mutex::wait(std::optional<clock::time_point> deadline, bool checkpoints) {
  for (std::chrono::nanoseconds slice = first_slice;; slice = std::min(2 * slice, last_slice)) {
    if (checkpoints) {
      this_task::checkpoint();
      if (waits_in_task()) slice = task_slice;
    }
    const auto left = deadline ? *deadline - clock::now() : std::chrono::nanoseconds::max();
    const bool last = left <= slice;
    const int error = lock_for(mutex_, last ? left : slice);
    const lock_outcome outcome = error == 0 ? lock_outcome::acquired : judge(error);
    if (outcome != lock_outcome::timed_out) return outcome;
    if (last) {
      if (checkpoints) this_task::checkpoint();
      return outcome;
    }
  }
}

robust_guard::robust_guard(robust_mutex& mutex) : mutex_(mutex) {
  const lock_outcome outcome = mutex.lock();
  if (outcome == lock_outcome::deadlock)
    throw process_error("deadlock: this thread already holds the lock that this call needs");
  abandoned_ = outcome == lock_outcome::abandoned;
}

}  // namespace carom::runtime

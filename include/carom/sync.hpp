// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Locks, semaphores, conditions, events and barriers between processes. A handle names a primitive
/// in a piece of shared memory of its own, which costs one descriptor in each process that has it.
/// Copies name the same primitive. Handles travel: as arguments and results of tasks and processes,
/// inside containers, in messages. A forked child, whoever forks it, goes on using those that it
/// inherits, and may pass them on. There is nothing to unlink: the memory goes with the last
/// handle, however its process ends.
///
/// Any thread of any process may call any function; one handle object must not be assigned while
/// another thread uses it. Processes must be of one PID namespace. All that wait are checkpoints
/// inside of a task: they throw soft_time_limit_exceeded. No process that dies, at whatever
/// instruction, leaves another waiting for it: see each class; but one that is stopped keeps what
/// it holds. Callbacks that run on a pool's loop thread should not wait: they stop the pool.
///
/// Making a primitive throws std::system_error when there is no descriptor or no memory left.
#include <carom/call.hpp>
#include <carom/detail/handle_form.hpp>
#include <carom/detail/timeout.hpp>
#include <carom/export.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace carom {

namespace detail {
class lock_state;
class semaphore_state;
class condition_state;
class event_state;
class barrier_state;
}  // namespace detail

/// How waiting for a lock ended. True if the lock is held now.
class acquire_result {
 public:
  enum class outcome : std::uint8_t { timed_out, acquired, abandoned };

  constexpr acquire_result(outcome how) noexcept : how_(how) {}

  constexpr explicit operator bool() const noexcept { return how_ != outcome::timed_out; }
  /// The lock is held, and its former owner died while it held it (or dropped its last handle):
  /// what the lock protects may be half changed.
  constexpr bool abandoned() const noexcept { return how_ == outcome::abandoned; }
  constexpr bool timed_out() const noexcept { return how_ == outcome::timed_out; }
  constexpr outcome how() const noexcept { return how_; }

  friend constexpr bool operator==(acquire_result, acquire_result) = default;

 private:
  outcome how_;
};

/// A lock that one thread of one process owns at a time (billiard: `Lock`; there anybody may
/// release it). A TimedLockable: std::scoped_lock and std::unique_lock work. Locking and unlocking
/// what nobody else wants makes no system call.
///
/// When its owner dies, the next one gets it at once and is told: `acquire` and `abandoned`. The
/// same holds when a thread drops its process's last copy of a handle while it holds the lock by
/// it. One thread may hold 2,000 at a time: the kernel frees no more of them when it dies. The
/// class is called `lock`; this name only lets it have a member of that name.
class CAROM_API exclusive_lock {
 public:
  exclusive_lock();
  exclusive_lock(const exclusive_lock&) noexcept = default;
  exclusive_lock& operator=(const exclusive_lock&) noexcept = default;
  ~exclusive_lock();

  /// Waits for the lock. Throws process_error, as every wait that could not end, if the calling
  /// thread has it already (a deadlock).
  void lock();
  /// Throws process_error if the calling thread does not hold the lock: nobody has it, or another
  /// thread or process does.
  void unlock();
  bool try_lock();
  template <class Rep, class Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& time) {
    return static_cast<bool>(acquire(time));
  }
  template <class Clock, class Duration>
  bool try_lock_until(const std::chrono::time_point<Clock, Duration>& when) {
    const auto now = Clock::now();
    if (when <= now) return try_lock();
    return static_cast<bool>(acquire(when - now));
  }

  /// Waits at most so long, and says how it ended. Throws process_error if the calling thread has
  /// the lock already; with a time of zero it only looks, and that counts as timed out.
  acquire_result acquire(detail::timeout time = std::nullopt);
  void release() { unlock(); }

  /// Whether the present owner got the lock from one that died; for that owner to ask.
  bool abandoned() const noexcept;

 private:
  friend class condition;
  friend struct detail::handle_access;
  explicit exclusive_lock(std::shared_ptr<detail::lock_state> state) noexcept;
  void pack(detail::byte_writer& out) const;
  static exclusive_lock unpack(detail::byte_reader& in);

  std::shared_ptr<detail::lock_state> state_;
};
using lock = exclusive_lock;

/// As `lock`, but its owner may lock it again, and has to unlock it as often (billiard: `RLock`).
class CAROM_API rlock {
 public:
  rlock();
  rlock(const rlock&) noexcept = default;
  rlock& operator=(const rlock&) noexcept = default;
  ~rlock();

  void lock();
  /// Throws process_error if the calling thread does not hold the lock.
  void unlock();
  bool try_lock();
  template <class Rep, class Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& time) {
    return static_cast<bool>(acquire(time));
  }
  template <class Clock, class Duration>
  bool try_lock_until(const std::chrono::time_point<Clock, Duration>& when) {
    const auto now = Clock::now();
    if (when <= now) return try_lock();
    return static_cast<bool>(acquire(when - now));
  }

  /// Waits at most so long, and says how it ended.
  acquire_result acquire(detail::timeout time = std::nullopt);
  void release() { unlock(); }

  /// Whether the present owner got the lock from one that died; for that owner to ask.
  bool abandoned() const noexcept;

 private:
  friend class condition;
  friend struct detail::handle_access;
  explicit rlock(std::shared_ptr<detail::lock_state> state) noexcept;
  void pack(detail::byte_writer& out) const;
  static rlock unpack(detail::byte_reader& in);

  std::shared_ptr<detail::lock_state> state_;
};

/// Counts units that may be taken (billiard: `Semaphore`). It has no owners: any process may
/// release, and what a process took before it died stays taken. Use a lock where that matters.
class CAROM_API semaphore {
 public:
  /// More units than that are refused.
  static constexpr int max_value = 0x7fffffff;

  /// Throws std::invalid_argument if `value` is negative.
  explicit semaphore(int value = 1);
  semaphore(const semaphore&) noexcept = default;
  semaphore& operator=(const semaphore&) noexcept = default;
  ~semaphore();

  /// Takes a unit, waits at most so long for one; whether it got one.
  bool acquire(detail::timeout time = std::nullopt);
  /// Puts `n` units there. Throws std::invalid_argument if `n` is not positive; process_error, and
  /// releases nothing, if there would be more than `max_value`, or, of a bounded semaphore, more
  /// than at first.
  void release(int n = 1);
  /// How many units there are: true for an instant only.
  int get_value() const noexcept;

  void lock() { acquire(); }
  void unlock() { release(); }
  bool try_lock() { return acquire(std::chrono::nanoseconds(0)); }

 protected:
  struct bounded {};
  semaphore(int value, bounded);
  explicit semaphore(std::shared_ptr<detail::semaphore_state> state) noexcept;
  static std::shared_ptr<detail::semaphore_state> unpack_state(detail::byte_reader& in,
                                                               bool is_bounded);

 private:
  friend struct detail::handle_access;
  void pack(detail::byte_writer& out) const;
  static semaphore unpack(detail::byte_reader& in);

  std::shared_ptr<detail::semaphore_state> state_;
};

/// A semaphore whose value never exceeds its first one (billiard: `BoundedSemaphore`).
class CAROM_API bounded_semaphore : public semaphore {
 public:
  explicit bounded_semaphore(int value = 1) : semaphore(value, bounded{}) {}

 private:
  friend struct detail::handle_access;
  explicit bounded_semaphore(std::shared_ptr<detail::semaphore_state> state) noexcept
      : semaphore(std::move(state)) {}
  static bounded_semaphore unpack(detail::byte_reader& in);
};

/// Lets holders of a lock wait for what other holders of it bring (billiard: `Condition`). It
/// travels together with its lock: two descriptors.
///
/// A notification goes to a waiter that lives: who has died while it waited counts for nothing, and
/// what reached a waiter that died before its `wait` returned goes on to one that was waiting then.
/// As with every condition, a waiter may also find that somebody was faster: wait in a loop, or
/// with `wait_for`. If the lock's owner dies meanwhile, the lock's `abandoned` says so after
/// `wait`.
class CAROM_API condition {
 public:
  /// That many threads may wait at once.
  static constexpr int max_waiters = 1024;

  /// With an rlock of its own.
  condition();
  explicit condition(exclusive_lock over);
  explicit condition(rlock over);
  condition(const condition&) noexcept = default;
  condition& operator=(const condition&) noexcept = default;
  ~condition();

  /// The lock's.
  void lock();
  void unlock();
  bool try_lock();
  acquire_result acquire(detail::timeout time = std::nullopt);
  void release() { unlock(); }
  bool abandoned() const noexcept;

  /// Releases the lock (an rlock of any depth), waits for a notification, at most so long, and has
  /// the lock again, as deep as before, when it returns or throws: for that it may wait longer.
  /// False if it timed out. Throws process_error if the calling thread does not hold the lock, or
  /// there are `max_waiters` already.
  bool wait(detail::timeout time = std::nullopt);

  /// Waits until `ready()` is true, asked while the lock is held; at most so long. What `ready()`
  /// said last.
  template <class Predicate>
  bool wait_for(Predicate ready, detail::timeout time = std::nullopt) {
    using clock = std::chrono::steady_clock;
    const clock::time_point begin = clock::now();
    while (!ready()) {
      if (!time.limit()) {
        wait();
      } else {
        const auto left = *time.limit() - (clock::now() - begin);
        if (left <= left.zero()) return false;
        wait(left);
      }
    }
    return true;
  }

  /// Wakes the `n` that have waited longest, or all if there are fewer. Throws process_error if the
  /// calling thread does not hold the lock, std::invalid_argument if `n` is not positive.
  void notify(int n = 1);
  void notify_all();

 private:
  friend struct detail::handle_access;
  explicit condition(std::shared_ptr<detail::condition_state> state) noexcept;
  void pack(detail::byte_writer& out) const;
  static condition unpack(detail::byte_reader& in);

  std::shared_ptr<detail::condition_state> state_;
};

/// A flag to wait for (billiard: `Event`).
class CAROM_API event {
 public:
  event();
  event(const event&) noexcept = default;
  event& operator=(const event&) noexcept = default;
  ~event();

  /// Lets all that wait go on, and all that come until `clear`.
  void set() noexcept;
  void clear() noexcept;
  bool is_set() const noexcept;
  /// Waits until it is set, at most so long; whether it was. A `clear` right after the `set` takes
  /// it from nobody who was waiting.
  bool wait(detail::timeout time = std::nullopt);

 private:
  friend struct detail::handle_access;
  explicit event(std::shared_ptr<detail::event_state> state) noexcept;
  void pack(detail::byte_writer& out) const;
  static event unpack(detail::byte_reader& in);

  std::shared_ptr<detail::event_state> state_;
};

/// Where `parties` threads wait for each other, again and again (billiard: `Barrier`).
///
/// If one of them dies inside `wait`, times out, passes its soft limit, or its action throws, the
/// barrier breaks: the others get broken_barrier at once (of a death: within 100 ms), and so does
/// everybody who comes, until `reset`. Who comes while a full party is still on its way through
/// waits for the next one to gather; if its time is up before that begins, it alone gets
/// broken_barrier, and nobody is held up by it.
class CAROM_API barrier {
 public:
  static constexpr int max_parties = 32768;

  /// `action` is run by one of the parties, the last to come, before the others go on; it is a call
  /// because it may be any process's turn. `time` is for waits that bring none of their own. Throws
  /// std::invalid_argument if `parties` is not positive, or above `max_parties`.
  explicit barrier(int parties, packed_call action = {}, detail::timeout time = std::nullopt);
  barrier(const barrier&) noexcept = default;
  barrier& operator=(const barrier&) noexcept = default;
  ~barrier();

  /// Waits for the others. The number of this party, from 0, in the order of arrival. Throws
  /// broken_barrier; in the one that runs it, what the action throws.
  int wait();
  int wait(detail::timeout time);
  /// Makes it as new: those that wait get broken_barrier.
  void reset();
  /// Breaks it.
  void abort();
  int parties() const noexcept;
  /// How many wait now.
  int n_waiting() const;
  bool broken() const;

 private:
  friend struct detail::handle_access;
  barrier(std::shared_ptr<detail::barrier_state> state,
          std::shared_ptr<const packed_call> action) noexcept;
  void pack(detail::byte_writer& out) const;
  static barrier unpack(detail::byte_reader& in);

  std::shared_ptr<detail::barrier_state> state_;
  std::shared_ptr<const packed_call> action_;
};

template <>
struct detail::form<exclusive_lock> : detail::handle_form<exclusive_lock> {};
template <>
struct detail::form<rlock> : detail::handle_form<rlock> {};
template <>
struct detail::form<semaphore> : detail::handle_form<semaphore> {};
template <>
struct detail::form<bounded_semaphore> : detail::handle_form<bounded_semaphore> {};
template <>
struct detail::form<condition> : detail::handle_form<condition> {};
template <>
struct detail::form<event> : detail::handle_form<event> {};
template <>
struct detail::form<barrier> : detail::handle_form<barrier> {};

}  // namespace carom

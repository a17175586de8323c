// SPDX-License-Identifier: BSL-1.0
// lock and rlock: rows of api.md, and how they differ from billiard's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::acquire_result;
using carom::test::forked;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

constexpr auto abandoned = acquire_result::outcome::abandoned;
constexpr auto acquired = acquire_result::outcome::acquired;
constexpr auto timed_out = acquire_result::outcome::timed_out;

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const carom::process_error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

bool free_for_others(auto lock) {
  return forked([&] { return lock.try_lock(); }).succeeded();
}

/// A process that holds the lock until the board's `slot` is 2.
template <class Lock>
forked holder(Lock& lock, unsigned slot) {
  forked made([&lock, slot] {
    lock.lock();
    board::set(slot, 1);
    const bool released = board::wait(slot, 2);
    lock.unlock();
    return released;
  });
  board::wait(slot, 1);
  return made;
}

TEST_F(Parity, Sync_lock_acquire_and_release) {
  carom::lock lock;
  EXPECT_TRUE(lock.acquire());
  EXPECT_EQ(lock.acquire(0s), timed_out) << "a look does no harm";
  EXPECT_FALSE(lock.try_lock());
  EXPECT_FALSE(free_for_others(lock));
  lock.release();
  EXPECT_TRUE(free_for_others(lock));
}

TEST_F(Parity, Sync_lock_twice_is_a_deadlock_that_is_told) {
  carom::lock lock;
  lock.lock();
  using testing::HasSubstr;
  EXPECT_THAT(message_of([&] { lock.lock(); }), HasSubstr("deadlock"));
  EXPECT_THAT(message_of([&] { lock.acquire(1h); }), HasSubstr("deadlock"));
  EXPECT_THAT(message_of([&] { lock.try_lock_for(1h); }), HasSubstr("rlock"));
  lock.unlock();
  EXPECT_TRUE(free_for_others(lock)) << "one unlock was enough";
}

TEST_F(Parity, Sync_lock_release_of_what_is_not_held) {
  carom::lock lock;
  EXPECT_THROW(lock.release(), carom::process_error);
  EXPECT_TRUE(lock.try_lock());
  std::thread([&] {
    EXPECT_THROW(lock.unlock(), carom::process_error) << "another thread's";
  }).join();
  EXPECT_FALSE(free_for_others(lock));
  lock.unlock();
  EXPECT_THROW(lock.unlock(), carom::process_error) << "once too often";
}

TEST_F(Parity, Sync_lock_release_of_another_processs_lock) {
  carom::lock lock;
  forked other = holder(lock, 0);
  EXPECT_THAT(message_of([&] { lock.release(); }), testing::HasSubstr("does not hold"));
  EXPECT_FALSE(lock.try_lock()) << "it has kept it";
  board::set(0, 2);
  EXPECT_TRUE(other.succeeded());
}

TEST_F(Parity, Sync_lock_held_by_the_parent_is_not_the_forked_childs) {
  carom::lock lock;
  lock.lock();
  EXPECT_TRUE(forked([&] {
                try {
                  lock.unlock();
                } catch (const carom::process_error&) {
                  return lock.acquire(10ms).timed_out();
                }
                return false;
              }).succeeded());
  lock.unlock();
}

TEST_F(Parity, Sync_lock_times_out) {
  carom::lock lock;
  forked other = holder(lock, 0);
  const auto begin = clock_type::now();
  EXPECT_EQ(lock.acquire(50ms), timed_out);
  EXPECT_FALSE(lock.try_lock_until(begin + 100ms));
  EXPECT_GE(clock_type::now() - begin, 100ms);
  EXPECT_FALSE(lock.try_lock_until(std::chrono::system_clock::now() + 10ms));
  EXPECT_FALSE(lock.try_lock_until(std::chrono::steady_clock::time_point::min())) << "long past";
  EXPECT_EQ(lock.acquire(-1h), timed_out);
  EXPECT_EQ(lock.acquire(0s), timed_out);
  board::set(0, 2);
  EXPECT_EQ(lock.acquire(std::chrono::hours::max()), acquired) << "for ever, no overflow";
  lock.unlock();
}

TEST_F(Parity, Sync_lock_is_a_standard_lockable) {
  carom::lock first, second;
  carom::rlock third;
  {
    std::scoped_lock all(first, second, third);
    EXPECT_FALSE(free_for_others(first));
    EXPECT_FALSE(free_for_others(third));
  }
  std::unique_lock<carom::lock> later(first, std::defer_lock);
  EXPECT_TRUE(later.try_lock_for(1s));
  std::unique_lock tried(second, std::try_to_lock);
  EXPECT_TRUE(tried.owns_lock());
  std::lock_guard<carom::rlock> guard(third);
}

TEST_F(Parity, Sync_lock_copies_name_the_same_lock) {
  carom::lock lock, copy = lock;
  copy.lock();
  EXPECT_FALSE(free_for_others(lock));
  lock.unlock();
  EXPECT_TRUE(free_for_others(copy));
  carom::lock other;
  other.lock();
  other = lock;  // the other lock is gone, and with it that this thread had it
  EXPECT_TRUE(other.try_lock());
  EXPECT_FALSE(lock.try_lock());
  lock.unlock();
}

TEST_F(Parity, Sync_lock_moved_from_is_still_a_handle) {
  carom::lock lock;
  const carom::lock taken = std::move(lock);
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST_F(Parity, Sync_lock_excludes_processes_and_threads) {
  carom::lock lock;
  constexpr unsigned counter = 0, rounds = 2000;
  const auto count = [&] {
    for (unsigned i = 0; i < rounds; ++i) {
      const std::scoped_lock held(lock);
      board::set(counter, board::get(counter) + 1);  // not one step
    }
    return true;
  };
  std::vector<forked> processes;
  for (int i = 0; i < 3; ++i) processes.emplace_back(count);
  std::thread thread(count);
  thread.join();
  for (auto& one : processes) EXPECT_TRUE(one.succeeded());
  EXPECT_EQ(board::get(counter), 4 * rounds);
}

TEST_F(Parity, Sync_lock_of_a_dead_process_is_abandoned) {
  carom::lock lock;
  holder(lock, 0).kill();
  EXPECT_EQ(lock.acquire(), abandoned);
  EXPECT_TRUE(lock.abandoned());
  lock.release();
  EXPECT_EQ(lock.acquire(), acquired) << "told once";
  EXPECT_FALSE(lock.abandoned());
  lock.release();
}

TEST_F(Parity, Sync_lock_of_a_dead_process_tells_users_of_guards_too) {
  carom::lock lock;
  holder(lock, 0).kill();
  const std::scoped_lock held(lock);
  EXPECT_TRUE(lock.abandoned());
}

TEST_F(Parity, Sync_lock_of_a_dead_process_goes_to_who_waits_for_it) {
  carom::lock lock;
  forked owner = holder(lock, 0);
  std::vector<forked> waiting;
  for (int i = 0; i < 3; ++i)
    waiting.emplace_back([&] {
      board::add(1);
      const acquire_result how = lock.acquire();
      if (how.abandoned()) board::add(2);
      lock.release();
      return true;
    });
  board::wait(1, 3);
  owner.kill();
  for (auto& one : waiting) EXPECT_TRUE(one.succeeded());
  EXPECT_EQ(board::get(2), 1u) << "the first is told";
}

TEST_F(Parity, Sync_lock_of_an_ended_thread_is_abandoned) {
  carom::lock lock;
  std::thread([&] { lock.lock(); }).join();
  EXPECT_EQ(lock.acquire(), abandoned);
  lock.release();
}

TEST_F(Parity, Sync_lock_misuse_does_not_swallow_that_it_is_abandoned) {
  carom::rlock lock;
  holder(lock, 0).kill();
  EXPECT_THROW(lock.unlock(), carom::process_error);
  EXPECT_EQ(lock.acquire(), abandoned);
  lock.release();
}

TEST_F(Parity, Sync_lock_is_left_behind_with_its_handle) {
  std::optional<carom::lock> lock(std::in_place);
  forked other([copy = *lock]() mutable {
    board::set(0, 1);
    board::wait(0, 2);
    return copy.acquire().abandoned();
  });
  board::wait(0, 1);
  lock->lock();
  lock.reset();  // this process has no handle on it any more, and could never unlock it
  board::set(0, 2);
  EXPECT_TRUE(other.succeeded());
}

/// In a process of its own: the memory stays mapped there, because the thread's lock lies in it.
bool thread_without_handle() {
  std::optional<carom::lock> lock(std::in_place);
  forked other([copy = *lock]() mutable {
    board::wait(0);
    const bool held = copy.acquire(10ms).timed_out();
    board::set(1, 1);
    return held && copy.acquire().abandoned();
  });
  std::thread owner([&] {
    lock->lock();
    board::set(2, 1);
    board::wait(1);
  });
  board::wait(2);
  lock.reset();
  board::set(0, 1);
  owner.join();
  return other.succeeded();
}

TEST_F(Parity, Sync_lock_of_a_thread_that_lives_stays_locked_without_a_handle) {
  EXPECT_TRUE(forked(thread_without_handle).succeeded());
}

TEST_F(Parity, Sync_rlock_is_recursive) {
  carom::rlock lock;
  EXPECT_TRUE(lock.acquire());
  EXPECT_TRUE(lock.acquire());
  EXPECT_TRUE(lock.try_lock());
  lock.release();
  lock.release();
  EXPECT_FALSE(free_for_others(lock));
  lock.release();
  EXPECT_TRUE(free_for_others(lock));
  EXPECT_THROW(lock.release(), carom::process_error);
}

TEST_F(Parity, Sync_rlock_of_others) {
  carom::rlock lock;
  forked other = holder(lock, 0);
  EXPECT_THROW(lock.release(), carom::process_error);
  EXPECT_FALSE(lock.try_lock());
  EXPECT_EQ(lock.acquire(20ms), timed_out);
  board::set(0, 2);
  EXPECT_TRUE(other.succeeded());
  EXPECT_TRUE(lock.try_lock_for(1s));
  std::thread([&] { EXPECT_THROW(lock.unlock(), carom::process_error); }).join();
  lock.unlock();
}

TEST_F(Parity, Sync_rlock_of_a_dead_process_begins_at_depth_one) {
  carom::rlock lock;
  forked deep([&] {
    for (int i = 0; i < 5; ++i) lock.lock();
    board::set(0, 1);
    return board::wait(0, 2);
  });
  board::wait(0, 1);
  deep.kill();
  EXPECT_EQ(lock.acquire(), abandoned);
  EXPECT_EQ(lock.acquire(), acquired) << "it is ours already";
  EXPECT_TRUE(lock.abandoned()) << "and what the dead left is still as it was";
  lock.release();
  lock.release();
  EXPECT_TRUE(free_for_others(lock));
}

}  // namespace

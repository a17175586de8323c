// SPDX-License-Identifier: BSL-1.0
// Rows of failures.md: what leaks, and who hangs when a peer dies.
#include <gtest/gtest.h>

#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using carom::test::forked;
using namespace std::chrono_literals;

std::ptrdiff_t named_objects() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator("/dev/shm"), fs::directory_iterator());
}

void use_all_once() {
  carom::lock lock;
  carom::rlock rlock;
  carom::semaphore semaphore(1);
  carom::bounded_semaphore bounded(1);
  carom::condition condition(lock);
  carom::event event;
  carom::barrier barrier(1);
  const std::scoped_lock held(lock, rlock, semaphore, bounded);
  condition.notify();
  event.set();
  event.wait();
  barrier.wait();
}

TEST_F(Failures, 37_ten_thousand_locks_leave_nothing_behind) {
  use_all_once();
  const auto before = carom::test::holdings::now();
  const std::ptrdiff_t named = named_objects();
  for (int i = 0; i < 10'000; ++i) use_all_once();
  EXPECT_TRUE(carom::test::holdings::now().within(before));
  EXPECT_LE(named_objects(), named);
}

TEST_F(Failures, 37_locks_of_killed_processes_leave_nothing_behind) {
  const std::ptrdiff_t named = named_objects();
  const auto before = carom::test::holdings::now();
  for (int i = 0; i < 100; ++i) {
    forked user([] {
      for (;;) {
        use_all_once();
        board::add(0);
      }
      return true;
    });
    board::wait(0, board::get(0) + 1);
    user.kill();
  }
  EXPECT_TRUE(carom::test::holdings::now().within(before));
  EXPECT_LE(named_objects(), named);
}

TEST_F(Failures, 38_condition_whose_waiters_died_notifies_the_living) {
  carom::condition condition;
  const auto wait = [&] {
    const std::scoped_lock held(condition);
    board::add(0);
    return condition.wait();
  };
  std::vector<forked> dead, living;
  for (int i = 0; i < 3; ++i) dead.emplace_back(wait);
  board::wait(0, 3);
  for (int i = 0; i < 2; ++i) living.emplace_back(wait);
  board::wait(0, 5);
  condition.lock();  // now they wait
  condition.unlock();
  for (auto& one : dead) one.kill();
  for (int i = 0; i < 2; ++i) {
    const std::scoped_lock held(condition);
    condition.notify(1);
  }
  for (auto& one : living) EXPECT_TRUE(one.succeeded());
}

TEST_F(Failures, 38_condition_whose_notifier_died_does_not_hang) {
  carom::condition condition;
  forked waiter([&] {
    const std::scoped_lock held(condition);
    board::add(0);
    return condition.wait(500ms) || condition.abandoned();
  });
  board::wait(0);
  forked notifier([&] {
    condition.lock();
    board::add(1);
    return board::wait(1, 2);
  });
  board::wait(1);
  notifier.kill();
  EXPECT_TRUE(waiter.succeeded()) << "its own time is over, and the lock is to be had";
}

TEST_F(Failures, 38_event_whose_setter_died_ends_by_the_time_of_the_wait) {
  carom::event event;
  forked setter([&] {
    board::add(0);
    board::wait(0, 2);
    event.set();
    return true;
  });
  board::wait(0);
  setter.kill();
  EXPECT_FALSE(event.wait(50ms));
  forked dead([&] { return event.wait(); });
  dead.kill();
  event.set();
  EXPECT_TRUE(event.wait());
}

TEST_F(Failures, 38_barrier_breaks_when_a_party_dies) {
  carom::barrier barrier(3);
  forked dying([&] { return barrier.wait() >= 0; });
  forked other([&] {
    try {
      barrier.wait();
    } catch (const carom::broken_barrier&) {
      return true;
    }
    return false;
  });
  ASSERT_TRUE(eventually([&] { return barrier.n_waiting() == 2; }));
  dying.kill();
  EXPECT_TRUE(other.succeeded());
  barrier.reset();
  EXPECT_FALSE(barrier.broken());
}

TEST_F(Failures, 38_lock_of_a_dead_owner_is_recovered) {
  carom::lock lock;
  forked owner([&] {
    lock.lock();
    board::add(0);
    return board::wait(0, 2);
  });
  board::wait(0);
  owner.kill();
  EXPECT_TRUE(lock.acquire(10s).abandoned());
  lock.release();
}

}  // namespace

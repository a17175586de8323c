// SPDX-License-Identifier: BSL-1.0
// condition: rows of api.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::forked;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

constexpr unsigned sleeping = 0, woken = 1;

/// Says that it is about to wait, which it does before anybody else gets the lock.
bool wait_once(carom::condition& condition, carom::detail::timeout time = std::nullopt) {
  const std::scoped_lock held(condition);
  board::add(sleeping);
  const bool notified = condition.wait(time);
  board::add(woken);
  return notified;
}

/// Comes back when `count` waiters wait.
void until_they_wait(carom::condition& condition, unsigned count) {
  board::wait(sleeping, count);
  const std::scoped_lock held(condition);
}

void notify(carom::condition& condition, int n) {
  const std::scoped_lock held(condition);
  condition.notify(n);
}

TEST_F(Parity, Sync_condition_notify_wakes_one_of_processes_and_threads) {
  carom::condition condition;
  forked process([&] { return wait_once(condition); });
  std::thread thread([&] { EXPECT_TRUE(wait_once(condition)); });
  until_they_wait(condition, 2);
  EXPECT_EQ(board::get(woken), 0u);
  notify(condition, 1);
  board::wait(woken, 1);
  {
    const std::scoped_lock held(condition);  // time for a second one to get the lock
    EXPECT_EQ(board::get(woken), 1u);
  }
  notify(condition, 1);
  EXPECT_TRUE(process.succeeded());
  thread.join();
  EXPECT_EQ(board::get(woken), 2u);
}

TEST_F(Parity, Sync_condition_notify_all_after_timeouts) {
  carom::condition condition;
  for (const bool timed : {true, false}) {
    board::reset();
    std::vector<forked> processes;
    std::vector<std::thread> threads;
    const auto wait = [&condition, timed] {
      return timed ? !wait_once(condition, 20ms) : wait_once(condition);
    };
    for (int i = 0; i < 3; ++i) processes.emplace_back(wait);
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { EXPECT_TRUE(wait()); });
    until_they_wait(condition, 6);
    if (!timed) {
      EXPECT_EQ(board::get(woken), 0u);
      const std::scoped_lock held(condition);
      condition.notify_all();
    }
    for (auto& one : processes) EXPECT_TRUE(one.succeeded());
    for (auto& one : threads) one.join();
    EXPECT_EQ(board::get(woken), 6u);
  }
}

TEST_F(Parity, Sync_condition_notify_n_wakes_those_that_have_waited_longest) {
  carom::condition condition;
  std::vector<forked> processes;
  for (unsigned i = 0; i < 4; ++i) {
    processes.emplace_back([&condition, i] {
      const bool notified = wait_once(condition);
      board::set(10 + i, 1);
      return notified;
    });
    until_they_wait(condition, i + 1);
  }
  notify(condition, 2);
  EXPECT_TRUE(processes[0].succeeded());
  EXPECT_TRUE(processes[1].succeeded());
  EXPECT_EQ(board::get(12) + board::get(13), 0u);
  notify(condition, 100);
  EXPECT_TRUE(processes[2].succeeded());
  EXPECT_TRUE(processes[3].succeeded());
}

TEST_F(Parity, Sync_condition_notification_is_not_kept_for_later) {
  carom::condition condition;
  const std::scoped_lock held(condition);
  condition.notify(5);
  condition.notify_all();
  EXPECT_FALSE(condition.wait(10ms));
}

TEST_F(Parity, Sync_condition_wait_times_out_and_has_the_lock) {
  carom::condition condition;
  condition.acquire();
  const auto begin = clock_type::now();
  EXPECT_FALSE(condition.wait(50ms));
  EXPECT_GE(clock_type::now() - begin, 50ms);
  EXPECT_FALSE(condition.wait(0s));
  EXPECT_FALSE(forked([&] { return condition.try_lock(); }).succeeded());
  condition.release();
  EXPECT_TRUE(forked([&] { return condition.try_lock(); }).succeeded());
}

TEST_F(Parity, Sync_condition_without_its_lock_is_an_error) {
  carom::condition condition;
  EXPECT_THROW(condition.wait(), carom::process_error);
  EXPECT_THROW(condition.wait(1ms), carom::process_error);
  EXPECT_THROW(condition.notify(), carom::process_error);
  EXPECT_THROW(condition.notify_all(), carom::process_error);
  EXPECT_THROW(condition.release(), carom::process_error);
  condition.lock();
  std::thread([&] {
    EXPECT_THROW(condition.wait(1ms), carom::process_error);
    EXPECT_THROW(condition.notify(), carom::process_error);
  }).join();
  EXPECT_TRUE(forked([&] {
                try {
                  condition.notify();
                } catch (const carom::process_error&) {
                  return true;
                }
                return false;
              }).succeeded());
  EXPECT_THROW(condition.notify(0), std::invalid_argument);
  EXPECT_THROW(condition.notify(-1), std::invalid_argument);
  condition.unlock();
}

TEST_F(Parity, Sync_condition_over_a_lock) {
  carom::lock lock;
  carom::condition condition(lock), second(lock);
  forked waiter([&] { return wait_once(condition); });
  board::wait(sleeping, 1);
  lock.lock();  // the same lock
  second.notify_all();
  condition.notify();
  EXPECT_FALSE(condition.try_lock());
  lock.unlock();
  EXPECT_TRUE(waiter.succeeded());
}

TEST_F(Parity, Sync_condition_restores_the_depth_of_an_rlock) {
  carom::rlock lock;
  carom::condition condition(lock);
  forked waiter([&] {
    for (int i = 0; i < 3; ++i) lock.lock();
    const bool notified = wait_once(condition);
    for (int i = 0; i < 3; ++i) lock.unlock();
    board::set(10, lock.try_lock());
    return notified;
  });
  board::wait(sleeping, 1);
  lock.lock();  // it has released all four
  condition.notify();
  lock.unlock();
  EXPECT_TRUE(waiter.succeeded());
  EXPECT_EQ(board::get(10), 1u);
  EXPECT_TRUE(forked([&] { return lock.acquire().abandoned(); }).succeeded());
}

TEST_F(Parity, Sync_condition_wait_for) {
  carom::condition condition;
  forked waiter([&] {
    const std::scoped_lock held(condition);
    board::add(sleeping);
    return condition.wait_for([] { return board::get(10) == 3; });
  });
  until_they_wait(condition, 1);
  for (unsigned i = 1; i <= 3; ++i) {
    const std::scoped_lock held(condition);
    board::set(10, i);
    condition.notify_all();
  }
  EXPECT_TRUE(waiter.succeeded());
  const std::scoped_lock held(condition);
  const auto begin = clock_type::now();
  EXPECT_FALSE(condition.wait_for([] { return false; }, 50ms));
  EXPECT_GE(clock_type::now() - begin, 50ms);
  EXPECT_TRUE(condition.wait_for([] { return true; }, 0s));
  EXPECT_FALSE(condition.wait_for([] { return false; }, 0s));
}

TEST_F(Parity, Sync_condition_dead_waiters_are_no_event) {
  carom::condition condition;
  std::vector<forked> dead;
  for (unsigned i = 0; i < 5; ++i) dead.emplace_back([&] { return wait_once(condition); });
  until_they_wait(condition, 5);
  forked living([&] { return wait_once(condition); });
  until_they_wait(condition, 6);
  for (auto& one : dead) one.kill();
  notify(condition, 1);
  EXPECT_TRUE(living.succeeded()) << "the one notification was for the one that lives";
}

TEST_F(Parity, Sync_condition_notification_of_a_waiter_that_dies_goes_on) {
  carom::condition condition;
  std::vector<forked> dying;
  for (unsigned i = 0; i < 3; ++i) dying.emplace_back([&] { return wait_once(condition); });
  until_they_wait(condition, 3);
  forked next([&] { return wait_once(condition); });
  until_they_wait(condition, 4);
  condition.lock();
  condition.notify(1);
  for (auto& one : dying) one.kill();  // none of them can have the lock
  forked late([&] { return !wait_once(condition, 300ms); });
  condition.unlock();
  EXPECT_TRUE(next.succeeded());
  EXPECT_TRUE(late.succeeded()) << "who came later gets nothing of it";
}

TEST_F(Parity, Sync_condition_tells_that_the_lock_was_abandoned) {
  carom::condition condition;
  forked waiter([&] {
    const std::scoped_lock held(condition);
    board::add(sleeping);
    return condition.wait() && condition.abandoned();
  });
  until_they_wait(condition, 1);
  forked notifier([&] {
    condition.lock();
    condition.notify();
    board::set(10, 1);
    return board::wait(10, 2);
  });
  board::wait(10, 1);
  notifier.kill();
  EXPECT_TRUE(waiter.succeeded());
}

TEST_F(Parity, Sync_condition_takes_a_thousand_waiters_and_says_when_it_is_full) {
  carom::condition condition;
  constexpr unsigned processes = 16, each = carom::condition::max_waiters / processes;
  std::vector<forked> waiting;
  for (unsigned i = 0; i < processes; ++i)
    waiting.emplace_back([&] {
      std::vector<std::thread> threads;
      for (unsigned t = 0; t < each; ++t) threads.emplace_back([&] { wait_once(condition); });
      for (auto& one : threads) one.join();
      return true;
    });
  until_they_wait(condition, carom::condition::max_waiters);
  condition.lock();
  EXPECT_THROW(condition.wait(1ms), carom::process_error);
  waiting.back().kill();
  waiting.pop_back();
  EXPECT_FALSE(condition.wait(1ms)) << "the places of the dead are free";
  condition.notify_all();
  condition.unlock();
  for (auto& one : waiting) EXPECT_TRUE(one.succeeded());
}

TEST_F(Parity, Sync_condition_dropped_by_its_owner_while_another_thread_waits) {
  std::optional<carom::condition> condition(std::in_place);
  carom::condition copy = *condition;
  std::thread waiter([&] {
    const std::scoped_lock held(copy);
    board::add(sleeping);
    EXPECT_TRUE(copy.wait());
  });
  until_they_wait(*condition, 1);
  notify(*condition, 1);
  condition.reset();
  waiter.join();
}

}  // namespace

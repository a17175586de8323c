// SPDX-License-Identifier: BSL-1.0
// Locks and their kin in tasks of a pool.
#include <gtest/gtest.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <mutex>
#include <optional>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using namespace std::chrono_literals;

void count_locked(carom::lock lock, unsigned slot, int times) {
  for (int i = 0; i < times; ++i) {
    const std::scoped_lock held(lock);
    board::set(slot, board::get(slot) + 1);
  }
}

TEST_F(Parity, Sync_lock_is_an_argument_of_tasks) {
  carom::pool pool{{.processes = 2}};
  const carom::lock lock;
  std::vector<carom::async_result<void>> all;
  for (int i = 0; i < 8; ++i) all.push_back(pool.apply_async(count_locked, lock, 0u, 500));
  count_locked(lock, 0, 500);
  for (auto& one : all) one.get();
  EXPECT_EQ(board::get(0), 4500u);
}

carom::event event_made_there() { return carom::event(); }
void set(carom::event event) { event.set(); }

TEST_F(Parity, Sync_event_is_a_result_of_tasks) {
  carom::pool pool{{.processes = 1}};
  carom::event event = pool.apply(event_made_there);
  EXPECT_FALSE(event.is_set());
  auto setting = pool.apply_async(set, event);
  EXPECT_TRUE(event.wait());
  setting.get();
}

int meet(carom::barrier barrier) { return barrier.wait(); }
void arrived(unsigned slot) { board::add(slot); }

TEST_F(Parity, Sync_barrier_with_an_action_between_workers) {
  carom::pool pool{{.processes = 3}};
  const carom::barrier barrier(3, carom::call(arrived, 0u));
  for (int round = 1; round <= 10; ++round) {
    std::vector<carom::async_result<int>> all;
    for (int i = 0; i < 3; ++i) all.push_back(pool.apply_async(meet, barrier));
    int sum = 0;
    for (auto& one : all) sum += one.get();
    EXPECT_EQ(sum, 3);
    EXPECT_EQ(board::get(0), static_cast<unsigned>(round));
  }
}

std::optional<carom::condition> kept_condition;
void keep_condition(carom::condition given) { kept_condition = given; }
bool wait_for_kept() {
  const std::scoped_lock held(*kept_condition);
  board::add(0);
  return kept_condition->wait();
}

TEST_F(Parity, Sync_condition_of_an_initializer) {
  carom::condition condition;
  carom::pool pool{{.processes = 2, .initializer = carom::call(keep_condition, condition)}};
  auto first = pool.apply_async(wait_for_kept), second = pool.apply_async(wait_for_kept);
  board::wait(0, 2);
  condition.lock();
  condition.notify_all();
  condition.unlock();
  EXPECT_TRUE(first.get());
  EXPECT_TRUE(second.get());
}

void lock_and_hold(carom::lock lock) {
  lock.lock();
  board::add(0);
  board::wait(1, 1, std::chrono::minutes(2));
}

TEST_F(Parity, Sync_lock_of_a_worker_that_is_killed_is_abandoned) {
  carom::pool pool{{.processes = 1}};
  carom::lock lock;
  auto task = pool.apply_async(lock_and_hold, lock);
  board::wait(0);
  EXPECT_FALSE(lock.try_lock());
  task.terminate(SIGKILL);
  EXPECT_TRUE(lock.acquire().abandoned());
  lock.release();
  EXPECT_THROW(task.get(), carom::error);
}

void forget_to_unlock(carom::lock lock) { lock.lock(); }

TEST_F(Parity, Sync_lock_that_a_task_forgets_is_abandoned_when_the_task_ends) {
  carom::pool pool{{.processes = 1}};
  carom::lock lock;
  pool.apply(forget_to_unlock, lock);
  EXPECT_TRUE(lock.acquire(10s).abandoned());
  lock.release();
}

enum class lock_kind { lock, rlock, semaphore, event, condition, barrier };

/// Waits for what does not come; whether the soft limit ended it.
bool waits_in_vain(lock_kind which, carom::lock lock, carom::rlock rlock,
                   carom::semaphore semaphore, carom::event event, carom::condition condition,
                   carom::barrier barrier) {
  try {
    switch (which) {
      case lock_kind::lock: lock.lock(); break;
      case lock_kind::rlock: rlock.lock(); break;
      case lock_kind::semaphore: semaphore.acquire(); break;
      case lock_kind::event: event.wait(); break;
      case lock_kind::barrier: barrier.wait(); break;
      case lock_kind::condition: {
        const std::scoped_lock held(condition);
        condition.wait();
      }
    }
  } catch (const carom::soft_time_limit_exceeded&) {
    return true;
  }
  return false;
}

TEST_F(Parity, Sync_waits_of_tasks_notice_the_soft_limit) {
  carom::pool pool{{.processes = 2}};
  carom::lock lock;
  carom::rlock rlock;
  const carom::semaphore semaphore(0);
  const carom::event event;
  carom::condition condition;
  const carom::barrier barrier(2);
  const std::scoped_lock held(lock, rlock);
  for (const lock_kind which : {lock_kind::lock, lock_kind::rlock, lock_kind::semaphore,
                                lock_kind::event, lock_kind::condition, lock_kind::barrier}) {
    auto task = pool.apply_async(carom::task_options{.soft_time_limit = 50ms}, waits_in_vain, which,
                                 lock, rlock, semaphore, event, condition, barrier);
    EXPECT_TRUE(task.get(20s)) << static_cast<int>(which);
  }
  EXPECT_TRUE(barrier.broken()) << "who leaves it without an outcome breaks it";
  EXPECT_TRUE(condition.try_lock());
  condition.notify();
  condition.unlock();
}

TEST_F(Parity, Sync_handles_do_not_stay_in_workers) {
  carom::pool pool{{.processes = 1}};
  const carom::event event;
  pool.apply(set, event);
  const auto mappings = [] { return carom::test::shared_mappings(::getpid()); };
  const auto before = pool.apply(mappings);
  for (int i = 0; i < 100; ++i) pool.apply(set, event);
  EXPECT_EQ(pool.apply(mappings), before);
}

}  // namespace

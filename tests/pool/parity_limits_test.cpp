// SPDX-License-Identifier: BSL-1.0
// Rows `timeout, soft_timeout`, `on_timeout_set`, `terminate_job`, `synack, _cancel` of api.md.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <carom/carom.hpp>
#include <chrono>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using namespace std::chrono_literals;

constexpr unsigned begun = 0, release = 1, seen = 2, after = 3;

void for_ever() {
  board::add(begun);
  for (;;) ::pause();
}

void for_ever_deaf() {
  ::signal(SIGTERM, SIG_IGN);
  for_ever();
}

/// Items below 100 are quick; others never end.
int hang_from_100(int item) {
  if (item >= 100) for_ever();
  return item;
}

int sleeper(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  return milliseconds;
}

void check_for_ever() {
  board::add(begun);
  for (;;) carom::this_task::checkpoint();
}

void sleep_for_ever() {
  board::add(begun);
  carom::this_task::sleep_for(std::chrono::hours(24 * 365 * 100));
}

std::string cleans_up_and_ends() {
  try {
    sleep_for_ever();
  } catch (const carom::soft_time_limit_exceeded& e) {
    // Once: what cleans up may sleep itself.
    carom::this_task::sleep_for(1ms);
    carom::this_task::checkpoint();
    return e.what();
  }
  return "";
}

int polls_its_token() {
  const auto token = carom::this_task::stop_token();
  int rounds = 1;
  while (!token.stop_requested()) rounds = rounds % 1000 + 1;
  return rounds;
}

bool uses_a_standard_token() {
  const std::stop_token token = carom::this_task::stop_token();
  std::promise<void> stopped;
  std::stop_callback call(token, [&] { stopped.set_value(); });
  stopped.get_future().wait();
  return token.stop_requested();
}

/// A blocking system call that nothing wakes but a signal.
int interrupted_call() {
  board::add(begun);
  ::poll(nullptr, 0, -1);
  const int error = errno;
  try {
    carom::this_task::checkpoint();
  } catch (const carom::soft_time_limit_exceeded&) {
    return error;
  }
  return 0;
}

void calls_back_first() {
  carom::this_task::on_soft_time_limit([] { board::add(seen); });
  sleep_for_ever();
}

struct timeouts {
  std::mutex mutex;
  std::vector<carom::timeout_event> seen;
  void add(const carom::timeout_event& e) {
    std::lock_guard lock(mutex);
    seen.push_back(e);
  }
  std::vector<carom::timeout_event> get() {
    std::lock_guard lock(mutex);
    return seen;
  }
};

TEST_F(Parity, Pool_time_limit_of_the_pool) {
  carom::pool pool{{.processes = 1, .time_limit = 50ms}};
  try {
    pool.apply(for_ever);
    FAIL();
  } catch (const carom::time_limit_exceeded& e) {
    EXPECT_EQ(e.limit(), 50ms);
    EXPECT_GE(e.run_time(), 50ms) << "never early";
    EXPECT_NE(e.task_name().find("for_ever"), std::string::npos) << e.what();
  }
  EXPECT_EQ(pool.apply(tasks::square, 3), 9) << "the worker is replaced";
}

TEST_F(Parity, Pool_time_limit_of_a_task) {
  carom::pool pool{{.processes = 2, .time_limit = 1h}};
  EXPECT_THROW(pool.apply({.time_limit = 20ms}, for_ever), carom::time_limit_exceeded);
  EXPECT_EQ(pool.apply({.time_limit = 1h}, tasks::square, 3), 9);
}

TEST_F(Parity, Pool_time_limit_that_a_task_lifts) {
  carom::pool pool{{.processes = 1, .time_limit = 20ms}};
  EXPECT_EQ(pool.apply({.time_limit = carom::no_limit}, sleeper, 100), 100);
  EXPECT_THROW(pool.apply(sleeper, 10'000), carom::time_limit_exceeded);
}

TEST_F(Parity, Pool_time_limit_counts_from_the_start_of_the_task) {
  carom::pool pool{{.processes = 1, .time_limit = 300ms}};
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 6; ++i) results.push_back(pool.apply_async(sleeper, 100));
  for (auto& each : results) EXPECT_EQ(each.get(), 100) << "they waited longer than the limit";
}

TEST_F(Parity, Pool_time_limit_of_map_items) {
  carom::pool pool{{.processes = 2, .time_limit = 100ms}};
  std::vector<int> items;
  for (int i = 0; i < 60; ++i) items.push_back(i % 20 == 7 ? 100 + i : i);
  const auto outcomes = pool.try_map(hang_from_100, items, 20);
  ASSERT_EQ(outcomes.size(), 60u);
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (items[i] < 100)
      EXPECT_EQ(outcomes[i].value(), items[i]);
    else
      EXPECT_THROW(outcomes[i].value(), carom::time_limit_exceeded);
  }
  EXPECT_THROW(pool.map(hang_from_100, items, 20), carom::time_limit_exceeded);
}

TEST_F(Parity, Pool_time_limit_of_many_short_items_is_no_limit_of_their_chunk) {
  carom::pool pool{{.processes = 1, .time_limit = 300ms}};
  const std::vector<int> items(10, 60);
  EXPECT_EQ(pool.map(sleeper, items, 10), items) << "600 ms in one chunk";
}

TEST_F(Parity, Pool_time_limit_of_one_map) {
  carom::pool pool{{.processes = 1}};
  const std::vector<int> items{1, 2, 100, 4};
  const auto outcomes = pool.try_map({.time_limit = 50ms}, hang_from_100, items, 1);
  EXPECT_EQ(outcomes[0].value(), 1);
  EXPECT_EQ(outcomes[1].value(), 2);
  EXPECT_THROW(outcomes[2].value(), carom::time_limit_exceeded);
  EXPECT_EQ(outcomes[3].value(), 4);
}

TEST_F(Parity, Pool_time_limit_of_imap_items) {
  carom::pool pool{{.processes = 2, .time_limit = 50ms}};
  int values = 0, limits = 0;
  auto range = pool.imap(hang_from_100, std::vector{1, 100, 3, 101, 5});
  for (int i = 0; i < 5; ++i) {
    try {
      range.next();
      ++values;
    } catch (const carom::time_limit_exceeded&) {
      ++limits;
    }
  }
  EXPECT_EQ(values, 3);
  EXPECT_EQ(limits, 2);
}

TEST_F(Parity, Pool_time_limit_kills_what_ignores_the_signal) {
  carom::pool pool{{.processes = 1, .time_limit = 20ms, .kill_grace = 20ms}};
  const auto first = pool.apply(tasks::worker);
  EXPECT_THROW(pool.apply(for_ever_deaf), carom::time_limit_exceeded);
  EXPECT_TRUE(eventually([&] { return !carom::test::status_of(first); }));
}

TEST_F(Parity, Pool_soft_time_limit_at_a_checkpoint) {
  carom::pool pool{{.processes = 1}};
  auto result = pool.apply_async({.soft_time_limit = 20ms}, check_for_ever);
  try {
    result.get();
    FAIL();
  } catch (const carom::soft_time_limit_exceeded& e) {
    EXPECT_EQ(e.limit(), 20ms);
    EXPECT_GE(e.run_time(), 20ms);
    EXPECT_EQ(e.task_id(), result.id());
    EXPECT_NE(e.task_name().find("check_for_ever"), std::string::npos) << e.what();
  }
  EXPECT_TRUE(result.soft_time_limit_passed());
}

/// Its helper waits for a lock while the task's soft limit passes.
std::string soft_limit_beside_a_helper() {
  carom::lock lock;
  std::atomic<bool> helper_threw = false;
  std::string how = "no limit";
  lock.lock();
  std::thread helper([&] {
    try {
      lock.lock();
      lock.unlock();
    } catch (...) {
      helper_threw = true;
    }
  });
  try {
    sleep_for_ever();
  } catch (const carom::soft_time_limit_exceeded&) {
    // Long enough for the helper to look again, which it does every 10 ms.
    std::this_thread::sleep_for(100ms);
    how = "the task heard of it";
  }
  lock.unlock();
  helper.join();
  return helper_threw ? "the helper heard of it" : how;
}

TEST_F(Parity, Pool_soft_time_limit_is_the_tasks_and_no_helpers) {
  carom::pool pool{{.processes = 1}};
  auto result = pool.apply_async({.soft_time_limit = 20ms}, soft_limit_beside_a_helper);
  EXPECT_EQ(result.get(), "the task heard of it");
  EXPECT_TRUE(result.soft_time_limit_passed());
}

TEST_F(Parity, Pool_soft_time_limit_wakes_a_sleep) {
  carom::pool pool{{.processes = 1, .soft_time_limit = 20ms}};
  const pid_t worker = pool.apply(tasks::worker);
  EXPECT_THROW(pool.apply(sleep_for_ever), carom::soft_time_limit_exceeded);
  EXPECT_EQ(pool.apply(tasks::worker), worker) << "a soft limit costs no worker";
}

TEST_F(Parity, Pool_soft_time_limit_is_thrown_once_and_recorded) {
  carom::pool pool{{.processes = 1}};
  auto result = pool.apply_async({.soft_time_limit = 20ms}, cleans_up_and_ends);
  EXPECT_NE(result.get(), "");
  EXPECT_TRUE(result.soft_time_limit_passed()) << "though the task swallowed it";
  EXPECT_FALSE(
      pool.apply_async({.soft_time_limit = 1h}, tasks::square, 1).soft_time_limit_passed());
}

TEST_F(Parity, Pool_soft_time_limit_stop_tokens) {
  carom::pool pool{{.processes = 1, .soft_time_limit = 20ms}};
  EXPECT_GT(pool.apply(polls_its_token), 0);
  EXPECT_TRUE(pool.apply(uses_a_standard_token));
  EXPECT_TRUE(pool.apply(uses_a_standard_token)) << "each task has one of its own";
}

TEST_F(Parity, Pool_soft_time_limit_interrupts_system_calls) {
  carom::pool pool{{.processes = 1, .soft_time_limit = 20ms}};
  EXPECT_EQ(pool.apply(interrupted_call), EINTR);
}

TEST_F(Parity, Pool_soft_time_limit_calls_back_first) {
  carom::pool pool{{.processes = 1, .soft_time_limit = 20ms}};
  EXPECT_THROW(pool.apply(calls_back_first), carom::soft_time_limit_exceeded);
  EXPECT_EQ(board::get(seen), 1u);
  EXPECT_THROW(pool.apply(sleep_for_ever), carom::soft_time_limit_exceeded);
  EXPECT_EQ(board::get(seen), 1u) << "it was the task's before";
}

TEST_F(Parity, Pool_soft_time_limit_of_map_items) {
  carom::pool pool{{.processes = 1, .soft_time_limit = 600ms}};
  // Each item keeps the limit, with time to spare; all of them together do not.
  const auto outcomes = pool.try_map(
      [](int item) {
        if (item == 2) carom::this_task::sleep_for(std::chrono::hours(1));
        carom::this_task::sleep_for(std::chrono::milliseconds(150));
        return item;
      },
      std::vector{0, 1, 2, 3, 4, 5}, 6);
  for (int i = 0; i < 6; ++i) {
    if (i == 2)
      EXPECT_THROW(outcomes[2].value(), carom::soft_time_limit_exceeded);
    else
      EXPECT_EQ(outcomes[static_cast<std::size_t>(i)].value(), i);
  }
}

TEST_F(Parity, Pool_soft_then_hard_time_limit) {
  timeouts told, told_by_task;
  carom::pool pool{{.processes = 1,
                    .time_limit = 60ms,
                    .soft_time_limit = 20ms,
                    .on_timeout = [&](const auto& e) { told.add(e); }}};
  auto result =
      pool.apply_async({.on_timeout = [&](const auto& e) { told_by_task.add(e); }}, for_ever);
  EXPECT_THROW(result.get(), carom::time_limit_exceeded);
  EXPECT_TRUE(result.soft_time_limit_passed());
  ASSERT_TRUE(eventually([&] { return told_by_task.get().size() == 2; }));
  for (const auto& all : {told.get(), told_by_task.get()}) {
    ASSERT_EQ(all.size(), 2u);
    EXPECT_TRUE(all[0].soft);
    EXPECT_EQ(all[0].limit, 20ms);
    EXPECT_FALSE(all[1].soft);
    EXPECT_EQ(all[1].limit, 60ms);
    EXPECT_EQ(all[1].task_id, result.id());
    EXPECT_EQ(all[1].pid, result.worker_pid());
  }
}

TEST_F(Parity, Pool_time_limit_callbacks_that_throw_change_nothing) {
  carom::pool pool{
      {.processes = 1,
       .time_limit = 20ms,
       .before_kill = [](const auto&) -> std::chrono::nanoseconds { throw 1; },
       .on_timeout = [](const auto&) { throw std::runtime_error("of the callback"); }}};
  EXPECT_THROW(pool.apply(for_ever), carom::time_limit_exceeded);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Pool_before_kill_has_time_for_a_diagnosis) {
  std::promise<carom::kill_event> told;
  carom::pool pool{{.processes = 1, .time_limit = 20ms, .before_kill = [&](const auto& e) {
                      told.set_value(e);
                      return std::chrono::hours(1);
                    }}};
  auto result = pool.apply_async(for_ever);
  EXPECT_THROW(result.get(), carom::time_limit_exceeded);
  const carom::kill_event event = told.get_future().get();
  EXPECT_EQ(event.reason, carom::kill_reason::time_limit);
  EXPECT_EQ(event.task_id, result.id());
  EXPECT_EQ(pool.apply(tasks::square, 3), 9) << "nobody waits for the diagnosis";
  EXPECT_TRUE(carom::test::status_of(event.pid)) << "it may still be looked at";
  pool.close();
  pool.join();  // which does not wait for an hour
}

TEST_F(Parity, Pool_limits_that_are_no_limits) {
  EXPECT_THROW(carom::pool({.time_limit = 0s}), std::invalid_argument);
  EXPECT_THROW(carom::pool({.soft_time_limit = -1s}), std::invalid_argument);
  EXPECT_THROW(carom::pool({.kill_grace = -1s}), std::invalid_argument);
  EXPECT_THROW(carom::pool({.kill_signal = 0}), std::invalid_argument);
  EXPECT_THROW(carom::pool({.start_timeout = 0s}), std::invalid_argument);
  EXPECT_THROW(carom::pool({.processes = 0}), std::invalid_argument);
  EXPECT_THROW(carom::pool({.max_tasks_per_child = 0}), std::invalid_argument);
  EXPECT_THROW(carom::pool({.memory_limit = 0}), std::invalid_argument);
  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(pool.apply({.time_limit = 0s}, tasks::square, 1), std::invalid_argument);
  EXPECT_THROW(pool.apply({.soft_time_limit = -5ms}, tasks::square, 1), std::invalid_argument);
  EXPECT_THROW(pool.apply({.retry = carom::retry_options{.attempts = 0}}, tasks::square, 1),
               std::invalid_argument);
  EXPECT_THROW(pool.apply({.deadline = 0s}, tasks::square, 1), std::invalid_argument);
}

TEST_F(Parity, Pool_cancel_a_task_that_waits) {
  carom::pool pool{{.processes = 1}};
  auto running = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  std::vector<carom::async_result<std::uint32_t>> waiting;
  for (int i = 0; i < 100; ++i) waiting.push_back(pool.apply_async(tasks::count, seen));
  for (auto& each : waiting) {
    EXPECT_TRUE(each.cancel());
    EXPECT_TRUE(each.ready());
    EXPECT_FALSE(each.cancel()) << "a second time there is nothing to cancel";
    EXPECT_THROW(each.get(), carom::terminated);
  }
  EXPECT_FALSE(running.cancel()) << "it has begun";
  board::set(release, 1);
  EXPECT_NO_THROW(running.get());
  EXPECT_FALSE(running.cancel()) << "it has ended";
  pool.close();
  pool.join();
  EXPECT_EQ(board::get(seen), 0u) << "what was cancelled never runs";
}

TEST_F(Parity, Pool_cancel_is_certain) {
  carom::pool pool{{.processes = 2}};
  for (int round = 0; round < 50; ++round) {
    board::set(seen, 0);
    std::vector<carom::async_result<std::uint32_t>> all;
    for (int i = 0; i < 100; ++i) all.push_back(pool.apply_async(tasks::count, seen));
    std::uint32_t cancelled = 0;
    for (auto it = all.rbegin(); it != all.rend(); ++it) cancelled += it->cancel();
    std::uint32_t values = 0;
    for (auto& each : all) {
      each.wait();
      values += each.successful();
    }
    EXPECT_EQ(values + cancelled, 100u);
    EXPECT_EQ(board::get(seen), values) << "runs exactly what was not cancelled";
  }
}

TEST_F(Parity, Pool_cancel_a_map) {
  carom::pool pool{{.processes = 1}};
  auto running = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  auto map = pool.map_async(tasks::square, std::vector<int>(1000, 1), 10);
  EXPECT_TRUE(map.cancel());
  EXPECT_THROW(map.get(), carom::terminated);
  board::set(release, 1);
  running.get();
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Pool_cancel_and_close) {
  carom::pool pool{{.processes = 1}};
  auto running = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  auto waiting = pool.apply_async(tasks::square, 1);
  pool.close();
  EXPECT_TRUE(waiting.cancel());
  board::set(release, 1);
  pool.join();
}

TEST_F(Parity, Pool_terminate_a_task) {
  carom::pool pool{{.processes = 2}};
  for (const int signal : {SIGTERM, SIGKILL, SIGINT}) {
    board::set(begun, 0);
    auto result = pool.apply_async(for_ever);
    ASSERT_TRUE(board::wait(begun));
    EXPECT_TRUE(result.terminate(signal));
    try {
      result.get();
      FAIL();
    } catch (const carom::terminated& e) {
      EXPECT_EQ(e.signal(), signal);
      EXPECT_EQ(e.task_id(), result.id());
      EXPECT_EQ(e.pid(), result.worker_pid());
    }
    EXPECT_FALSE(result.terminate()) << "it has ended";
  }
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_THROW(pool.apply_async(tasks::square, 3).terminate(0), std::invalid_argument);
  EXPECT_THROW(pool.apply_async(tasks::square, 3).terminate(1000), std::invalid_argument);
}

TEST_F(Parity, Pool_terminate_a_map) {
  carom::pool pool{{.processes = 2}};
  auto map = pool.map_async([](int) { for_ever(); }, std::vector<int>(100, 1), 10);
  ASSERT_TRUE(board::wait(begun, 2));
  EXPECT_TRUE(map.terminate());
  EXPECT_THROW(map.get(), carom::terminated);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Pool_terminate_job) {
  carom::pool pool{{.processes = 1}};
  const pid_t idle = pool.apply(tasks::worker);
  EXPECT_FALSE(pool.terminate_job(idle)) << "it runs nothing";
  auto result = pool.apply_async(for_ever);
  ASSERT_TRUE(board::wait(begun));
  EXPECT_TRUE(pool.terminate_job(result.worker_pid(), SIGKILL));
  EXPECT_THROW(result.get(), carom::terminated);
  EXPECT_THROW(pool.terminate_job(::getpid()), carom::process_error);
  EXPECT_THROW(pool.terminate_job(idle, -1), std::invalid_argument);
}

TEST_F(Parity, Pool_deaths_that_the_pool_orders_never_count) {
  carom::pool pool{{.processes = 1, .restarts = {.max_restarts = 1, .period = 1h}}};
  for (int i = 0; i < 5; ++i) {
    board::set(begun, 0);
    auto result = pool.apply_async(for_ever);
    ASSERT_TRUE(board::wait(begun));
    EXPECT_TRUE(result.terminate());
  }
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Pool_callbacks_may_call_the_pool) {
  std::promise<bool> cancelled, grown;
  carom::pool pool{{.processes = 1}};
  auto victim = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  auto waiting = pool.apply_async(tasks::square, 1);
  victim.then([&](const auto&) {
    cancelled.set_value(waiting.cancel());
    pool.grow(1);
    grown.set_value(pool.workers().size() == 1);
    EXPECT_THROW(pool.apply(tasks::square, 1), carom::error) << "it would wait for itself";
  });
  EXPECT_TRUE(victim.terminate());
  EXPECT_TRUE(cancelled.get_future().get());
  grown.get_future().get();
  EXPECT_TRUE(eventually([&] { return pool.workers().size() == 2; }));
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// Rows `timeout`, `on_timeout_set` of api.md: what takes too long is ended; the soft limits of
// parity_soft_limits_test.cpp come before that.
#include <gtest/gtest.h>
#include <signal.h>

#include <carom/carom.hpp>
#include <chrono>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/endless_task.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

using carom::test::eventually;
using tasks::for_ever;
using namespace std::chrono_literals;

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

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// Row `soft_timeout` of api.md: a task hears that its time is over, and may clean up.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <carom/carom.hpp>
#include <cerrno>
#include <chrono>
#include <future>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using namespace std::chrono_literals;

constexpr unsigned noticed = 1;

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
  carom::this_task::on_soft_time_limit([] { board::add(noticed); });
  sleep_for_ever();
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
  EXPECT_EQ(board::get(noticed), 1u);
  EXPECT_THROW(pool.apply(sleep_for_ever), carom::soft_time_limit_exceeded);
  EXPECT_EQ(board::get(noticed), 1u) << "it was the task's before";
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

/// The first item of a chunk registers a callback and ends; the second passes its limit.
int registers_or_sleeps(int item) {
  if (item == 0)
    carom::this_task::on_soft_time_limit([] { board::add(noticed); });
  else
    sleep_for_ever();
  return item;
}

TEST_F(Parity, Pool_soft_time_limit_callback_of_a_map_item_is_no_other_items) {
  carom::pool pool{{.processes = 1}};
  const auto outcomes =
      pool.try_map({.soft_time_limit = 100ms}, registers_or_sleeps, std::vector{0, 1}, 2);
  EXPECT_EQ(outcomes[0].value(), 0);
  EXPECT_THROW(outcomes[1].value(), carom::soft_time_limit_exceeded);
  EXPECT_EQ(board::get(noticed), 0u);
}

}  // namespace

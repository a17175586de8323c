// SPDX-License-Identifier: BSL-1.0
// Row `soft_timeout` of api.md, in pools that tasks make: what a task has heard of its own limit is
// nothing to the tasks of its pools.
#include <gtest/gtest.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <exception>
#include <future>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using namespace std::chrono_literals;
using carom::start_method;

constexpr unsigned outer_called = 1;

/// Its limit ends it, or nothing does in time.
int hears_its_limit() {
  try {
    carom::this_task::sleep_for(30s);
  } catch (const carom::soft_time_limit_exceeded&) {
    return 1;
  }
  return 0;
}

bool hears_by_a_standard_token() {
  const std::stop_token token = carom::this_task::stop_token();
  std::promise<void> stopped;
  std::stop_callback call(token, [&] { stopped.set_value(); });
  return stopped.get_future().wait_for(30s) == std::future_status::ready;
}

int first_task_of_a_pool_below(start_method method) {
  carom::pool below{{.processes = 1, .start_method = method}};
  return below.apply({.soft_time_limit = 50ms}, hears_its_limit);
}

int has_had_its_limit_and_makes_a_pool(start_method method) {
  if (hears_its_limit() == 0) return -1;
  return first_task_of_a_pool_below(method);
}

int has_a_callback_and_makes_a_pool(start_method method) {
  carom::this_task::on_soft_time_limit([] { board::add(outer_called); });
  return first_task_of_a_pool_below(method);
}

/// Both by tokens: 1 for the task below, 2 for this one behind it.
int has_a_token_and_makes_a_pool(start_method method) {
  const std::stop_token token = carom::this_task::stop_token();
  int heard = 0;
  {
    carom::pool below{{.processes = 1, .start_method = method}};
    const auto told = below.apply_async({.soft_time_limit = 50ms}, hears_by_a_standard_token);
    while (!told.ready()) carom::test::let_pass(1ms);  // waiting in get() would hear this one's
    heard += told.get();
  }
  std::promise<void> stopped;
  std::stop_callback call(token, [&] { stopped.set_value(); });
  if (stopped.get_future().wait_for(30s) == std::future_status::ready) heard += 2;
  return heard;
}

int never_ends(int) {
  for (;;) ::pause();
}

/// What waits for the results of a pool of its own.
void waits_below(int way) {
  carom::pool below{{.processes = 1}};
  const std::vector<int> items{1, 2};
  if (way == 0) below.apply(never_ends, 0);
  if (way == 1) below.apply_async(never_ends, 0).wait(1h);
  if (way == 2) below.imap(never_ends, items).next();
  if (way == 3) below.imap_unordered(never_ends, items).next();
  if (way == 4) below.imap_unordered(never_ends, items).next(1h);
  if (way < 5) return;
  auto result = below.apply_async(never_ends, 0);
  below.close();
  if (way == 5) below.join();
  if (way == 6) below.join(1h);
}

constexpr start_method methods[] = {start_method::fork, start_method::forkserver,
                                    start_method::spawn};

}  // namespace

TEST_F(Parity, Pool_soft_time_limit_that_has_passed_is_no_other_tasks_below) {
  for (const auto method : methods) {
    SCOPED_TRACE(std::string(carom::to_string(method)));
    carom::pool pool{{.processes = 1}};
    EXPECT_EQ(pool.apply({.soft_time_limit = 50ms}, has_had_its_limit_and_makes_a_pool, method), 1);
  }
}

TEST_F(Parity, Pool_soft_time_limit_callback_is_not_called_below) {
  for (const auto method : methods) {
    SCOPED_TRACE(std::string(carom::to_string(method)));
    carom::pool pool{{.processes = 1}};
    EXPECT_EQ(pool.apply(has_a_callback_and_makes_a_pool, method), 1);
  }
  EXPECT_EQ(board::get(outer_called), 0u);
}

TEST_F(Parity, Pool_soft_time_limit_standard_tokens_at_two_levels) {
  for (const auto method : methods) {
    SCOPED_TRACE(std::string(carom::to_string(method)));
    carom::pool pool{{.processes = 1}};
    EXPECT_EQ(pool.apply({.soft_time_limit = 1s}, has_a_token_and_makes_a_pool, method), 3);
  }
}

TEST_F(Parity, Pool_soft_time_limit_is_heard_by_who_waits_for_a_pool_of_its_own) {
  carom::pool pool{{.processes = 1}};
  for (int way = 0; way < 7; ++way) {
    SCOPED_TRACE(way);
    EXPECT_THROW(pool.apply({.soft_time_limit = 100ms}, waits_below, way),
                 carom::soft_time_limit_exceeded);
  }
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

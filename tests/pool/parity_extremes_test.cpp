// SPDX-License-Identifier: BSL-1.0
// Durations of all options at their ends: a nanosecond, and the longest that there is.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/endless_task.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using carom::test::worker_roster;
using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr unsigned turn = 2;
constexpr nanoseconds for_ever_long = nanoseconds::max();

int counts_and_dies_once() {
  if (board::add(turn) == 0) std::raise(SIGKILL);
  return static_cast<int>(board::get(turn));
}

/// What any pool is to do, whatever its durations are.
void expect_works(carom::pool_options options) {
  options.processes = 2;
  carom::pool pool(std::move(options));
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(pool.map(tasks::square, std::vector{1, 2, 3}), (std::vector{1, 4, 9}));
  EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  EXPECT_EQ(pool.apply(tasks::square, 4), 16);
  pool.close();
  pool.join(60s);
}

}  // namespace

TEST_F(Parity, Pool_options_that_last_for_ever) {
  const std::vector<std::function<void(carom::pool_options&)>> all = {
      [](auto& o) { o.time_limit = for_ever_long; },
      [](auto& o) { o.soft_time_limit = for_ever_long; },
      [](auto& o) { o.kill_grace = for_ever_long; },
      [](auto& o) { o.start_timeout = for_ever_long; },
      [](auto& o) { o.claim_deadline = for_ever_long; },
      [](auto& o) { o.retry.backoff = for_ever_long; },
      [](auto& o) { o.restarts.period = for_ever_long; },
      [](auto& o) { o.restarts.backoff.max = for_ever_long; },
      [](auto& o) { o.restarts.backoff.reset_after = for_ever_long; },
      [](auto& o) { o.rate_limit = {.tasks = 1, .period = for_ever_long, .burst = 100}; },
      [](auto& o) { o.autoscale = {.max = 2, .idle_time = for_ever_long}; },
      [](auto& o) { o.autoscale = {.max = 2, .interval = for_ever_long}; },
      [](auto& o) { o.before_kill = [](const auto&) { return for_ever_long; }; },
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(i);
    carom::pool_options options;
    all[i](options);
    expect_works(std::move(options));
  }
}

TEST_F(Parity, Pool_options_that_last_a_nanosecond) {
  const std::vector<std::function<void(carom::pool_options&)>> all = {
      [](auto& o) { o.kill_grace = 1ns; },
      [](auto& o) { o.retry.backoff = 1ns; },
      [](auto& o) { o.restarts.period = 1ns; },
      [](auto& o) { o.restarts.backoff = {.initial = 1ns, .max = 1ns}; },
      [](auto& o) { o.restarts.backoff = {.initial = 1ns, .reset_after = 1ns}; },
      [](auto& o) { o.rate_limit = {.tasks = 1, .period = 1ns}; },
      [](auto& o) { o.autoscale = {.max = 2, .idle_time = 1ns, .interval = 1ms}; },
      [](auto& o) { o.before_kill = [](const auto&) { return 1ns; }; },
      [](auto& o) { o.before_kill = [](const auto&) { return nanoseconds::min(); }; },
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(i);
    carom::pool_options options;
    all[i](options);
    expect_works(std::move(options));
  }
}

TEST_F(Parity, Pool_limits_of_a_nanosecond_end_what_runs) {
  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(pool.apply({.time_limit = 1ns}, tasks::for_ever), carom::time_limit_exceeded);
  EXPECT_THROW(pool.apply({.soft_time_limit = 1ns}, [] { carom::this_task::sleep_for(1h); }),
               carom::soft_time_limit_exceeded);
  EXPECT_THROW(pool.map(
                   {.time_limit = 1ns}, [](int) { tasks::for_ever(); }, std::vector{1, 2}),
               carom::time_limit_exceeded);
  EXPECT_THROW(pool.apply({.deadline = 1ns}, tasks::for_ever), carom::timeout_error);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Pool_tasks_whose_limits_last_for_ever) {
  carom::pool pool{{.processes = 1, .time_limit = 1h}};
  EXPECT_EQ(pool.apply({.time_limit = for_ever_long}, tasks::square, 3), 9);
  EXPECT_EQ(pool.apply({.soft_time_limit = for_ever_long}, tasks::square, 3), 9);
  EXPECT_EQ(pool.apply({.time_limit = for_ever_long - 1ns, .soft_time_limit = for_ever_long - 1ns},
                       tasks::square, 3),
            9);
  EXPECT_EQ(pool.apply({.deadline = for_ever_long}, tasks::square, 3), 9);
  EXPECT_EQ(pool.map({.time_limit = for_ever_long, .deadline = for_ever_long}, tasks::square,
                     std::vector{1, 2}),
            (std::vector{1, 4}));
}

TEST_F(Parity, Pool_a_retry_after_for_ever_waits_and_ends_with_the_pool) {
  carom::pool pool{{.processes = 1}};
  auto result =
      pool.apply_async({.retry = carom::retry_options{.attempts = 40, .backoff = for_ever_long}},
                       counts_and_dies_once);
  EXPECT_TRUE(eventually([&] { return pool.metrics().retried == 1; }));
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_FALSE(result.ready());
  pool.terminate();
  pool.join(60s);
  EXPECT_THROW(result.get(), carom::terminated);
}

TEST_F(Parity, Pool_a_restart_after_for_ever_leaves_the_others_at_work) {
  worker_roster roster;
  carom::pool pool(roster.watch(
      {.processes = 2,
       .restarts = {.backoff = {.initial = for_ever_long, .max = for_ever_long, .jitter = 0}}}));
  ASSERT_TRUE(roster.wait_for_alive(2));
  ASSERT_TRUE(roster.kill_one());
  ASSERT_TRUE(roster.wait_for_downs(1));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(pool.apply(tasks::square, i), i * i);
  EXPECT_EQ(roster.alive().size(), 1u);
  EXPECT_EQ(pool.metrics().started_workers, 2u);
  pool.close();
  pool.join(60s);
}

TEST_F(Parity, Pool_a_start_timeout_of_a_nanosecond_ends_in_an_error) {
  worker_roster roster;
  {
    carom::pool pool(roster.watch({.processes = 1, .start_timeout = 1ns}));
    try {
      pool.apply(tasks::square, 3);  // if a worker was faster
    } catch (const carom::restart_freq_exceeded& e) {
      EXPECT_NE(e.cause().find("start_timeout"), std::string::npos) << e.cause();
    } catch (const carom::pool_closed&) {
    }
  }
  // 11 that died, and those who were on their way.
  EXPECT_LE(roster.downs().size(), 14u);
}

TEST_F(Parity, Pool_a_claim_deadline_of_a_nanosecond_ends_every_task) {
  carom::pool pool{
      {.processes = 2, .restarts = {.max_restarts = 30, .period = 1h}, .claim_deadline = 1ns}};
  try {
    for (int i = 0; i < 5; ++i) try {
        EXPECT_EQ(pool.apply(tasks::square, i), i * i);
      } catch (const carom::worker_lost&) {  // it began in the moment of the verdict
      }
  } catch (const carom::restart_freq_exceeded&) {  // so many seemed to hang
  } catch (const carom::pool_closed&) {
  }
}

TEST_F(Parity, Pool_rate_limit_of_a_large_burst_lets_tasks_begin) {
  carom::pool pool{
      {.processes = 1,
       .rate_limit = carom::rate_limit_options{.tasks = 1, .period = 24h, .burst = 100'000}}};
  for (int i = 0; i < 1'000; ++i)
    ASSERT_EQ(pool.apply_async(tasks::square, i % 9).get(60s), (i % 9) * (i % 9));
}

TEST_F(Parity, Pool_rate_limit_of_tokens_that_never_come_keeps_to_its_burst) {
  carom::pool pool{
      {.processes = 1,
       .rate_limit = carom::rate_limit_options{.tasks = 1, .period = for_ever_long, .burst = 3}}};
  std::vector<carom::async_result<std::uint32_t>> results;
  for (int i = 0; i < 10; ++i) results.push_back(pool.apply_async(tasks::count, turn));
  for (int i = 0; i < 3; ++i) EXPECT_NO_THROW(results[static_cast<std::size_t>(i)].get(60s));
  EXPECT_EQ(pool.metrics().pending, 7u);
  EXPECT_EQ(pool.metrics().dispatched, 3u);
}

TEST_F(Parity, Pool_before_kill_that_asks_for_ever_does_not_hold_up_the_end) {
  carom::pool pool{{.processes = 1, .time_limit = 20ms, .before_kill = [](const auto&) {
                      return for_ever_long;
                    }}};
  auto result = pool.apply_async(tasks::for_ever);
  EXPECT_THROW(result.get(), carom::time_limit_exceeded);
  EXPECT_TRUE(carom::test::status_of(result.worker_pid())) << "it may still be looked at";
  pool.close();
  EXPECT_NO_THROW(pool.join(60s));
}

TEST_F(Parity, Pool_join_and_get_for_hours_max) {
  carom::pool pool{{.processes = 1}};
  auto result = pool.apply_async(tasks::square, 3);
  EXPECT_EQ(result.get(std::chrono::hours::max()), 9);
  EXPECT_TRUE(result.wait(for_ever_long));
  EXPECT_TRUE(result.wait(for_ever_long / 3)) << "and one that still can be counted";
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  EXPECT_THROW(held.get(1ns), carom::timeout_error);
  EXPECT_THROW(held.get(nanoseconds::min()), carom::timeout_error);
  board::set(release, 1);
  EXPECT_GT(held.get(for_ever_long / 3), 0);
  pool.close();
  pool.join(std::chrono::hours::max());
  pool.join(for_ever_long / 3);
  pool.join(1ns);
}

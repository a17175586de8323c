// SPDX-License-Identifier: BSL-1.0
// Options that make no sense, and what a pool that has ended says to whoever asks something of it.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/endless_task.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using namespace std::chrono_literals;

/// That the message says which option it is about.
void expect_refused(const std::string& name,
                    const std::function<void(carom::pool_options&)>& change) {
  SCOPED_TRACE(name);
  carom::pool_options options;
  options.processes = 1;
  change(options);
  try {
    carom::pool pool(std::move(options));
    ADD_FAILURE() << "it was taken";
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
  }
}

/// All that can be asked of a pool, but close, terminate and join.
std::vector<std::function<void(carom::pool&)>> requests() {
  return {
      [](auto& p) { p.grow(1); },
      [](auto& p) { p.shrink(1); },
      [](auto& p) { p.restart(); },
      [](auto& p) { p.terminate_job(::getpid()); },
      [](auto& p) { p.apply(tasks::square, 1); },
      [](auto& p) { p.apply_async(tasks::square, 1); },
      [](auto& p) {
        p.map(tasks::square, std::vector{1, 2});
      },
      [](auto& p) {
        p.imap(tasks::square, std::vector{1, 2}).next();
      },
  };
}

void expect_ended(carom::pool& pool) {
  const auto all = requests();
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_THROW(all[i](pool), carom::pool_closed);
  }
  EXPECT_TRUE(pool.workers().empty()) << "there is none any more";
  EXPECT_EQ(pool.metrics().workers, 0u);
  EXPECT_EQ(pool.metrics().pending + pool.metrics().under_way, 0u);
  EXPECT_NO_THROW(pool.close());
  EXPECT_NO_THROW(pool.terminate());
  EXPECT_NO_THROW(pool.join(60s));
}

}  // namespace

TEST_F(Parity, Pool_options_that_make_no_sense) {
  expect_refused("processes", [](auto& o) { o.processes = 0; });
  expect_refused("max_pending", [](auto& o) { o.max_pending = 0; });
  expect_refused("max_pending_bytes", [](auto& o) { o.max_pending_bytes = 0; });
  expect_refused("max_tasks_per_child", [](auto& o) { o.max_tasks_per_child = 0; });
  expect_refused("max_memory_per_child", [](auto& o) { o.max_memory_per_child = 0; });
  expect_refused("memory_limit", [](auto& o) { o.memory_limit = 0; });
  expect_refused("pool_memory_limit", [](auto& o) { o.pool_memory_limit = 0; });
  expect_refused("rlimits", [](auto& o) { o.rlimits = {{.resource = 99, .soft = 1, .hard = 1}}; });
  expect_refused("rlimits", [](auto& o) { o.rlimits = {{.resource = -1, .soft = 1, .hard = 1}}; });
  expect_refused("rlimits", [](auto& o) { o.rlimits = {{.resource = 0, .soft = 2, .hard = 1}}; });
  expect_refused("start_method",
                 [](auto& o) { o.start_method = static_cast<carom::start_method>(77); });
  expect_refused("initializer", [](auto& o) { o.initializer = carom::packed_call(); });
  expect_refused("on_process_exit", [](auto& o) { o.on_process_exit = carom::packed_call(); });
  for (const int signal : {0, -1, 1000})
    expect_refused("signal", [&](auto& o) { o.kill_signal = signal; });
}

TEST_F(Parity, Pool_durations_that_make_no_sense) {
  for (const auto bad : {std::chrono::nanoseconds(0), std::chrono::nanoseconds(-1),
                         std::chrono::nanoseconds::min()}) {
    expect_refused("time_limit", [&](auto& o) { o.time_limit = bad; });
    expect_refused("soft_time_limit", [&](auto& o) { o.soft_time_limit = bad; });
    expect_refused("start_timeout", [&](auto& o) { o.start_timeout = bad; });
    expect_refused("claim_deadline", [&](auto& o) { o.claim_deadline = bad; });
    expect_refused("restarts.period", [&](auto& o) { o.restarts.period = bad; });
    expect_refused("rate_limit.period",
                   [&](auto& o) { o.rate_limit = {.tasks = 1, .period = bad}; });
    expect_refused("autoscale.interval", [&](auto& o) { o.autoscale = {.interval = bad}; });
  }
  for (const auto bad : {std::chrono::nanoseconds(-1), std::chrono::nanoseconds::min()}) {
    expect_refused("kill_grace", [&](auto& o) { o.kill_grace = bad; });
    expect_refused("retry.backoff", [&](auto& o) { o.retry.backoff = bad; });
    expect_refused("backoff.initial", [&](auto& o) { o.restarts.backoff.initial = bad; });
    expect_refused("backoff.reset_after", [&](auto& o) { o.restarts.backoff.reset_after = bad; });
    expect_refused("backoff.max", [&](auto& o) { o.restarts.backoff.max = bad; });
    expect_refused("autoscale.idle_time", [&](auto& o) { o.autoscale = {.idle_time = bad}; });
  }
  expect_refused("backoff.max", [](auto& o) { o.restarts.backoff = {.initial = 2s, .max = 1s}; });
  const double not_a_number = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {0.0, -1.0, 0.999, not_a_number})
    expect_refused("backoff.multiplier", [&](auto& o) { o.restarts.backoff.multiplier = bad; });
  for (const double bad : {-0.1, 1.1, not_a_number})
    expect_refused("backoff.jitter", [&](auto& o) { o.restarts.backoff.jitter = bad; });
}

TEST_F(Parity, Pool_numbers_that_make_no_sense) {
  const double not_a_number = std::numeric_limits<double>::quiet_NaN();
  expect_refused("max_restarts", [](auto& o) { o.restarts.max_restarts = -1; });
  for (const double bad : {0.0, -1.0, not_a_number})
    expect_refused("rate_limit.tasks", [&](auto& o) { o.rate_limit = {.tasks = bad}; });
  for (const int bad : {0, -1})
    expect_refused("rate_limit.burst", [&](auto& o) { o.rate_limit = {.tasks = 1, .burst = bad}; });
  for (const int bad : {0, -1, 65'536})
    expect_refused("retry.attempts", [&](auto& o) { o.retry.attempts = bad; });
  expect_refused("autoscale", [](auto& o) { o.autoscale = {.min = 0, .max = 4}; });
  expect_refused("autoscale", [](auto& o) { o.autoscale = {.min = -1, .max = 4}; });
  expect_refused("autoscale", [](auto& o) { o.autoscale = {.min = 3, .max = 2}; });
  expect_refused("autoscale", [](auto& o) { o.autoscale = {.min = 1, .max = 4097}; });
  expect_refused("autoscale", [](auto& o) { o.autoscale = {.min = 2, .max = 4}; });
}

TEST_F(Parity, Pool_sizes_that_make_no_sense) {
  carom::pool pool{{.processes = 3}};
  for (const int bad : {0, -1, std::numeric_limits<int>::min()}) {
    EXPECT_THROW(pool.grow(bad), std::invalid_argument) << bad;
    EXPECT_THROW(pool.shrink(bad), std::invalid_argument) << bad;
    EXPECT_THROW(pool.shrink(bad, carom::shrinking::drain), std::invalid_argument) << bad;
  }
  EXPECT_THROW(pool.grow(std::numeric_limits<int>::max()), std::invalid_argument);
  EXPECT_THROW(pool.shrink(3), std::invalid_argument) << "one stays";
  EXPECT_THROW(pool.shrink(std::numeric_limits<int>::max()), std::invalid_argument);
  EXPECT_EQ(pool.processes(), 3);
}

TEST_F(Parity, Pool_after_close) {
  carom::pool pool{{.processes = 1}};
  pool.apply(tasks::square, 1);
  pool.close();
  pool.join(60s);
  expect_ended(pool);
}

TEST_F(Parity, Pool_after_terminate) {
  carom::pool pool{{.processes = 1}};
  pool.apply_async(tasks::for_ever);
  ASSERT_TRUE(board::wait(begun));
  pool.terminate();
  pool.join(60s);
  expect_ended(pool);
}

TEST_F(Parity, Pool_after_it_has_failed) {
  carom::pool pool{{.processes = 1, .restarts = {.max_restarts = 0}}};
  auto lost = pool.apply_async(tasks::for_ever);
  ASSERT_TRUE(board::wait(begun));
  auto waiting = pool.apply_async(tasks::square, 1);
  ASSERT_EQ(::kill(lost.worker_pid(), SIGKILL), 0);
  EXPECT_THROW(waiting.get(60s), carom::restart_freq_exceeded);
  EXPECT_THROW(lost.get(60s), carom::error);
  EXPECT_TRUE(eventually([&] {
    try {
      return pool.terminate_job(::getpid());
    } catch (const carom::process_error&) {
      return false;
    } catch (const carom::pool_closed&) {
      return true;
    }
  }));
  EXPECT_NO_THROW(pool.join(60s)) << "nobody has to close it";
  expect_ended(pool);
}

TEST_F(Parity, Pool_terminate_of_a_pool_that_has_failed_sends_nothing_again) {
  carom::pool pool{{.processes = 2, .restarts = {.max_restarts = 0}, .kill_grace = 300ms}};
  // It does not heed SIGTERM: only the kill after the grace ends it.
  auto stubborn = pool.apply_async([] {
    std::signal(SIGTERM, SIG_IGN);
    tasks::for_ever();
  });
  auto other = pool.apply_async(tasks::for_ever);
  ASSERT_TRUE(board::wait(begun, 2));
  ASSERT_EQ(::kill(other.worker_pid(), SIGKILL), 0);
  EXPECT_THROW(stubborn.get(60s), carom::restart_freq_exceeded);
  // More often than the grace is long: it passes all the same.
  EXPECT_TRUE(eventually([&] {
    pool.terminate();
    try {
      pool.join(10ms);
      return true;
    } catch (const carom::timeout_error&) {
      return false;
    }
  }));
}

TEST_F(Parity, Pool_after_close_while_it_finishes) {
  carom::pool pool{{.processes = 1}};
  auto held = pool.apply_async(tasks::hold, begun, 1u);
  ASSERT_TRUE(board::wait(begun));
  auto other = pool.apply_async(tasks::hold, begun, 1u);
  pool.close();
  EXPECT_THROW(pool.apply(tasks::square, 1), carom::pool_closed);
  EXPECT_THROW(pool.restart(), carom::pool_closed);
  EXPECT_EQ(pool.workers().size(), 1u);
  EXPECT_EQ(pool.metrics().pending + pool.metrics().under_way, 2u);
  pool.grow(1);
  EXPECT_TRUE(board::wait(begun, 2)) << "what waits is done by one worker more";
  EXPECT_TRUE(pool.terminate_job(held.worker_pid()));
  EXPECT_THROW(held.get(), carom::terminated);
  board::set(1, 1);
  EXPECT_GT(other.get(), 0);
  pool.join(60s);
}

// SPDX-License-Identifier: BSL-1.0
// pool::completion_fd tells of every end of a task, whatever has ended it.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/endless_task.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using tasks::for_ever;
using namespace std::chrono_literals;

void fail_in_start() {
  board::wait(release);
  throw std::runtime_error("no licence");
}

/// Waits as a foreign event loop does: for the descriptor, then it looks.
template <class R>
bool is_told(carom::pool& pool, const carom::async_result<R>& result) {
  while (!result.ready()) {
    pollfd readable{pool.completion_fd(), POLLIN, 0};
    if (::poll(&readable, 1, 20'000) != 1) return false;
    std::uint64_t count = 0;
    if (::read(pool.completion_fd(), &count, sizeof count) != sizeof count) return false;
  }
  return true;
}

/// A pool that has said nothing yet, whose only worker runs a task for ever.
struct busy_pool {
  explicit busy_pool(carom::pool_options options = {}) : pool(with_one(options)) {
    pool.completion_fd();
    EXPECT_TRUE(board::wait(begun));
  }
  static carom::pool_options with_one(carom::pool_options options) {
    board::set(begun, 0);
    options.processes = 1;
    return options;
  }
  carom::pool pool;
  carom::async_result<void> running = pool.apply_async(for_ever);
};

}  // namespace

TEST_F(Parity, Pool_completion_fd_tells_of_a_terminated_pool) {
  busy_pool busy;
  busy.pool.terminate();
  EXPECT_TRUE(is_told(busy.pool, busy.running));
}

TEST_F(Parity, Pool_completion_fd_tells_of_a_pool_that_has_failed) {
  carom::pool pool{{.processes = 1, .initializer = carom::call(fail_in_start)}};
  pool.completion_fd();
  const auto waiting = pool.apply_async(tasks::square, 3);
  board::set(release, 1);
  EXPECT_TRUE(is_told(pool, waiting));
  EXPECT_THROW(waiting.get(), carom::restart_freq_exceeded);
}

TEST_F(Parity, Pool_completion_fd_tells_of_ends_of_single_tasks) {
  busy_pool busy;
  const auto cancelled = busy.pool.apply_async(tasks::square, 3);
  const auto late = busy.pool.apply_async({.deadline = 20ms}, tasks::square, 3);
  EXPECT_TRUE(is_told(busy.pool, late)) << "a deadline";
  EXPECT_TRUE(cancelled.cancel());
  EXPECT_TRUE(is_told(busy.pool, cancelled));
  EXPECT_TRUE(busy.running.terminate());
  EXPECT_TRUE(is_told(busy.pool, busy.running)) << "terminate";
}

TEST_F(Parity, Pool_completion_fd_tells_of_a_lost_worker) {
  busy_pool busy;
  ASSERT_EQ(::kill(busy.running.worker_pid(), SIGKILL), 0);
  EXPECT_TRUE(is_told(busy.pool, busy.running));
}

TEST_F(Parity, Pool_completion_fd_tells_of_a_time_limit) {
  busy_pool busy({.time_limit = 50ms});
  EXPECT_TRUE(is_told(busy.pool, busy.running));
}

TEST_F(Parity, Pool_completion_fd_tells_of_what_callbacks_have_ended) {
  busy_pool busy;
  const auto waiting = busy.pool.apply_async(tasks::square, 3);
  busy.running.then([&](const auto&) { waiting.cancel(); });
  EXPECT_TRUE(busy.running.terminate());
  EXPECT_TRUE(is_told(busy.pool, waiting));
}

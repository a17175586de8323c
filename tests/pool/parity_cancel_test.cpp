// SPDX-License-Identifier: BSL-1.0
// Rows `terminate_job`, `synack, _cancel` of api.md.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <future>
#include <stdexcept>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/endless_task.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using tasks::for_ever;
using namespace std::chrono_literals;

constexpr unsigned seen = 2;

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

// A caller that runs again what was cancelled would run it twice.
TEST_F(Parity, Pool_terminate_a_map_that_has_begun_is_no_cancellation) {
  carom::pool pool{{.processes = 1}};
  auto map =
      pool.map_async([](int) { return tasks::hold(begun, release); }, std::vector<int>(100, 0), 1);
  ASSERT_TRUE(board::wait(begun));
  EXPECT_FALSE(map.cancel()) << "an item runs";
  EXPECT_TRUE(map.terminate(SIGINT));
  try {
    map.get();
    FAIL();
  } catch (const carom::terminated& e) {
    EXPECT_FALSE(e.info().cancelled) << e.what();
    EXPECT_EQ(e.info().signal, SIGINT);
  }
  EXPECT_EQ(pool.metrics().terminated, 1u);
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

// SPDX-License-Identifier: BSL-1.0
// The rows of api.md on how a pool is made: processes, initializer, max_pending, callbacks,
// restarts.
#include <gtest/gtest.h>

#include <sys/wait.h>

#include <carom/carom.hpp>
#include <future>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::worker_roster;
using namespace std::chrono_literals;

std::string greeting;
void remember(const std::string& text) {
  board::add(starts);
  greeting += text;
}
std::string remembered() { return greeting; }

void fail_with(const std::string& why) {
  board::add(starts);
  throw std::runtime_error(why);
}
void fail_first(unsigned times) {
  if (board::add(starts) < times) throw std::runtime_error("not yet");
}
void die_at_start() {
  board::add(starts);
  std::raise(SIGKILL);
}

std::size_t length_of(const std::string& text) { return text.size(); }
void hold_with(const std::string&, unsigned at, unsigned until) { tasks::hold(at, until); }

/// What the tasks of a pool end with whose workers never get ready: after some ten starts of each
/// process in a second. A machine too slow for that starts on in the next second.
void expect_restart_freq_exceeded(carom::pool_options options, const std::string& cause) {
  const auto begin = std::chrono::steady_clock::now();
  const int processes = options.processes;
  carom::pool pool(std::move(options));
  std::vector<carom::async_result<int>> pending;
  try {
    for (int i = 0; i < 10; ++i) pending.push_back(pool.apply_async(tasks::square, i));
  } catch (const carom::pool_closed&) {  // it has failed already
  }
  for (const auto& each : pending) {
    try {
      each.get(60s);
      ADD_FAILURE() << "the task has run";
    } catch (const carom::restart_freq_exceeded& e) {
      EXPECT_NE(e.cause().find(cause), std::string::npos) << e.cause();
      EXPECT_NE(std::string(e.what()).find(cause), std::string::npos) << e.what();
      EXPECT_GT(e.restarts(), 0U);
    }
  }
  EXPECT_TRUE(carom::test::eventually([&] {
    try {
      pool.apply_async(tasks::square, 1);
      return false;
    } catch (const carom::pool_closed&) {
      return true;
    }
  }));
  pool.close();
  pool.join(30s);
  const auto seconds = (std::chrono::steady_clock::now() - begin) / 1s;
  const auto begun_to_start = static_cast<long>(board::get(starts));
  EXPECT_GE(begun_to_start, processes);
  EXPECT_LE(begun_to_start, (2 + seconds) * (10 * processes + 2)) << "no fork storm";
}

}  // namespace

TEST_F(Parity, Pool_processes) {
  EXPECT_GE(carom::cpu_count(), 1);
  for (const int processes : {0, -1, 4097})
    EXPECT_THROW(carom::pool({.processes = processes}), std::invalid_argument) << processes;
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 5}));
  EXPECT_EQ(pool.processes(), 5);
  EXPECT_TRUE(roster.wait_for_alive(5));
}

TEST_F(Parity, Pool_initializer) {
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 2, .initializer = carom::call(remember, "hello")}));
  EXPECT_EQ(pool.apply(remembered), "hello");
  ASSERT_TRUE(roster.wait_for_ups(2));
  EXPECT_EQ(board::get(starts), 2U) << "once for each worker";
  ASSERT_TRUE(roster.kill_one());
  ASSERT_TRUE(roster.wait_for_ups(3));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(pool.apply(remembered), "hello");
  EXPECT_EQ(board::get(starts), 3U);
  EXPECT_EQ(greeting, "") << "it ran in workers only";
}

TEST_F(Parity, Pool_initializer_that_fails) {
  expect_restart_freq_exceeded(
      {.processes = 2, .initializer = carom::call(fail_with, "no licence")}, "no licence");
}

TEST_F(Parity, Pool_initializer_that_dies) {
  expect_restart_freq_exceeded({.processes = 1, .initializer = carom::call(die_at_start)},
                               "SIGKILL");
}

TEST_F(Parity, Pool_initializer_that_fails_at_first) {
  carom::pool pool{{.processes = 2, .initializer = carom::call(fail_first, 4)}};
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Pool_max_pending_reject) {
  carom::pool pool{{.processes = 1, .max_pending = 3, .overflow = carom::overflow::reject}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 3; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  EXPECT_THROW(pool.apply_async(tasks::square, 1), carom::queue_full);
  EXPECT_THROW(pool.apply(tasks::square, 1), carom::queue_full);
  board::set(release, 1);
  for (const auto& each : held) EXPECT_GT(each.get(), 0);
  EXPECT_EQ(pool.apply(tasks::square, 2), 4) << "room again";
}

TEST_F(Parity, Pool_max_pending_block) {
  carom::pool pool{{.processes = 1, .max_pending = 2}};
  const auto first = pool.apply_async(tasks::hold, begun, release);
  const auto second = pool.apply_async(tasks::square, 1);
  auto third = std::async(std::launch::async, [&] { return pool.apply_async(tasks::square, 7); });
  EXPECT_EQ(third.wait_for(50ms), std::future_status::timeout);
  board::set(release, 1);
  ASSERT_EQ(third.wait_for(30s), std::future_status::ready);
  EXPECT_EQ(third.get().get(), 49);
}

TEST_F(Parity, Pool_max_pending_keeps_all_tasks_of_many_threads) {
  carom::pool pool{{.processes = 2, .max_pending = 8}};
  std::atomic<int> sum = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      std::vector<carom::async_result<int>> results;
      for (int i = 0; i < 200; ++i) results.push_back(pool.apply_async(tasks::square, 1));
      for (const auto& each : results) sum += each.get();
    });
  threads.clear();
  EXPECT_EQ(sum, 8 * 200);
}

TEST_F(Parity, Pool_max_pending_block_ends_with_close) {
  carom::pool pool{{.processes = 1, .max_pending = 1}};
  const auto first = pool.apply_async(tasks::hold, begun, release);
  auto second = std::async(std::launch::async, [&] { pool.apply_async(tasks::square, 7); });
  EXPECT_EQ(second.wait_for(20ms), std::future_status::timeout);
  pool.close();
  ASSERT_EQ(second.wait_for(30s), std::future_status::ready);
  EXPECT_THROW(second.get(), carom::pool_closed);
  board::set(release, 1);
  EXPECT_GT(first.get(), 0);
}

TEST_F(Parity, Pool_max_pending_bytes) {
  carom::pool pool{
      {.processes = 1, .max_pending_bytes = 1 << 20, .overflow = carom::overflow::reject}};
  EXPECT_EQ(pool.apply(length_of, std::string(3 << 20, 'x')), 3U << 20) << "alone, any size passes";
  const std::string large(600 << 10, 'x');
  const auto first = pool.apply_async(hold_with, large, begun, release);
  EXPECT_THROW(pool.apply_async(length_of, large), carom::queue_full);
  const auto small = pool.apply_async(tasks::square, 2);
  board::set(release, 1);
  first.get();
  EXPECT_EQ(small.get(), 4);
  EXPECT_EQ(pool.apply(length_of, large), large.size());
}

TEST_F(Parity, Pool_max_pending_map_larger_than_the_limit) {
  carom::pool pool{{.processes = 2, .max_pending = 3}};
  const std::vector<int> items(100, 2);
  EXPECT_EQ(pool.map(tasks::square, items, 1), std::vector<int>(100, 4));
}

TEST_F(Parity, Pool_on_process_up_and_down) {
  worker_roster roster;
  {
    carom::pool pool(roster.watch({.processes = 3}));
    ASSERT_TRUE(roster.wait_for_alive(3));
    const auto before = roster.alive();
    EXPECT_TRUE(before.contains(pool.apply(tasks::worker)));
    ASSERT_TRUE(roster.kill_one());
    ASSERT_TRUE(roster.wait_for_downs(1));
    const carom::process_event down = roster.downs().front();
    EXPECT_TRUE(before.contains(down.pid));
    EXPECT_GE(down.index, 0);
    EXPECT_LT(down.index, 3);
    EXPECT_TRUE(WIFSIGNALED(down.exit_status) && WTERMSIG(down.exit_status) == SIGKILL);
    ASSERT_TRUE(roster.wait_for_alive(3)) << "it is replaced";
    pool.close();
    pool.join();
  }
  EXPECT_TRUE(roster.alive().empty());
  EXPECT_EQ(roster.ups(), 4);
  EXPECT_EQ(roster.downs().size(), 4U);
}

TEST_F(Parity, Pool_on_process_up_and_down_that_throw_change_nothing) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  {
    carom::pool pool{{.processes = 1,
                      .on_process_up = [](auto&) { throw std::runtime_error("up"); },
                      .on_process_down = [](auto&) { throw 42; }}};
    EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
    EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  }
  carom::set_log(nullptr);
}

TEST_F(Parity, Pool_restarts_that_exceed_the_intensity_stop_it) {
  worker_roster roster;
  carom::pool pool(roster.watch(
      {.processes = 1, .restarts = {.max_restarts = 2, .period = std::chrono::minutes(5)}}));
  for (std::size_t deaths = 1; deaths <= 3; ++deaths) {
    ASSERT_TRUE(roster.wait_for_ups(static_cast<int>(deaths)));
    ASSERT_TRUE(roster.kill_one());
    ASSERT_TRUE(roster.wait_for_downs(deaths));
  }
  EXPECT_TRUE(carom::test::eventually([&] {
    try {
      pool.apply_async(tasks::nothing);
      return false;
    } catch (const carom::pool_closed&) {
      return true;
    }
  }));
  EXPECT_EQ(roster.ups(), 3);
  pool.close();
  pool.join(30s);
}

TEST_F(Parity, Pool_restarts_are_forgotten_with_an_accepted_task) {
  carom::pool pool{
      {.processes = 1, .restarts = {.max_restarts = 2, .period = std::chrono::minutes(5)}}};
  for (int i = 0; i < 20; ++i) EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

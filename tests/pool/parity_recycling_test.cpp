// SPDX-License-Identifier: BSL-1.0
// Rows of api.md about what a worker may use up: `maxtasksperchild`, `max_memory_per_child`, and
// the memory limits of tasks.
#include <gtest/gtest.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using namespace std::chrono_literals;

/// Memory that stays: a leak.
void leak(std::size_t bytes) {
  static std::vector<std::string> kept;
  kept.emplace_back(bytes, 'x');
}
void leak_and_stay(std::size_t bytes) {
  leak(bytes);
  board::add(begun);
  for (;;) ::pause();
}

TEST_F(Parity, Pool_max_tasks_per_child) {
  carom::pool pool{{.processes = 2, .max_tasks_per_child = 5}};
  std::map<pid_t, int> runs;
  for (int i = 0; i < 200; ++i) ++runs[pool.apply(tasks::worker)];
  for (const auto& [pid, count] : runs) EXPECT_LE(count, 5);
  EXPECT_GE(runs.size(), 40u);
  std::vector<carom::async_result<pid_t>> results;
  for (int i = 0; i < 500; ++i) results.push_back(pool.apply_async(tasks::worker));
  for (auto& each : results) ++runs[each.get()];
  for (const auto& [pid, count] : runs) EXPECT_LE(count, 5);
  EXPECT_EQ(pool.metrics().died_workers, 0u) << "recycling is no failure";
  EXPECT_GE(pool.metrics().recycled_workers, 100u);
}

TEST_F(Parity, Pool_max_tasks_per_child_counts_no_restarts) {
  carom::pool pool{
      {.processes = 1, .restarts = {.max_restarts = 1, .period = 1h}, .max_tasks_per_child = 1}};
  for (int i = 0; i < 50; ++i) EXPECT_EQ(pool.apply(tasks::square, i), i * i);
}

TEST_F(Parity, Pool_max_tasks_per_child_never_runs_more_at_once_than_there_are_processes) {
  carom::pool pool{{.processes = 2, .max_tasks_per_child = 1}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 6; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  ASSERT_TRUE(board::wait(begun, 2));
  // The replacements are there, and wait.
  EXPECT_TRUE(eventually([&] {
    std::size_t standby = 0;
    for (const auto& one : pool.workers()) standby += one.state == carom::worker_state::standby;
    return standby == 2;
  }));
  EXPECT_EQ(board::get(begun), 2u);
  board::set(release, 1);
  std::set<pid_t> all;
  for (auto& each : held) all.insert(each.get());
  EXPECT_EQ(all.size(), 6u);
}

TEST_F(Parity, Pool_max_memory_per_child) {
  carom::pool pool{{.processes = 1, .max_memory_per_child = 32 * mib}};
  const pid_t first = pool.apply(tasks::worker);
  pool.apply(leak, 1 * mib);
  EXPECT_EQ(pool.apply(tasks::worker), first);
  pool.apply(leak, 64 * mib);
  EXPECT_NE(pool.apply(tasks::worker), first);
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Parity, Pool_max_memory_per_child_gives_back_what_it_has_not_begun) {
  carom::pool pool{{.processes = 1, .max_memory_per_child = 16 * mib}};
  std::vector<carom::async_result<void>> leaks;
  std::vector<carom::async_result<pid_t>> others;
  for (int i = 0; i < 5; ++i) {
    leaks.push_back(pool.apply_async(leak, 32 * mib));
    for (int k = 0; k < 3; ++k) others.push_back(pool.apply_async(tasks::worker));
  }
  for (auto& each : leaks) EXPECT_NO_THROW(each.get());
  std::set<pid_t> all;
  for (auto& each : others) all.insert(each.get());
  EXPECT_GE(all.size(), 4u);
}

TEST_F(Parity, Pool_memory_limit_while_a_task_runs) {
  carom::pool pool{{.processes = 2, .memory_limit = 64 * mib}};
  try {
    pool.apply(leak_and_stay, 128 * mib);
    FAIL();
  } catch (const carom::memory_limit_exceeded& e) {
    EXPECT_EQ(e.limit(), 64 * mib);
    EXPECT_GT(e.memory(), 64 * mib);
    EXPECT_NE(e.task_name().find("leak_and_stay"), std::string::npos) << e.what();
  }
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(pool.metrics().over_memory, 1u);
}

TEST_F(Parity, Pool_memory_limit_of_all_workers_together) {
  carom::pool pool{{.processes = 2, .pool_memory_limit = 128 * mib}};
  auto small = pool.apply_async(leak_and_stay, 48 * mib);
  ASSERT_TRUE(board::wait(begun));
  auto large = pool.apply_async(leak_and_stay, 96 * mib);
  EXPECT_THROW(large.get(), carom::memory_limit_exceeded) << "the one that holds most";
  EXPECT_FALSE(small.ready());
}

}  // namespace

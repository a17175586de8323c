// SPDX-License-Identifier: BSL-1.0
// Rows of api.md about how many workers a pool has: whom `shrink` takes, what autoscaling sees,
// `restart` at any moment, the default.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <set>
#include <stdexcept>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using namespace std::chrono_literals;

constexpr unsigned started = 2, start = 3;

void start_when_told() {
  board::add(started);
  board::wait(start, 1, std::chrono::minutes(2));
}
std::size_t count_of(const carom::pool& pool, carom::worker_state state) {
  const auto all = pool.workers();
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [&](const auto& w) { return w.state == state; }));
}
bool are_all_idle(const carom::pool& pool, std::size_t count) {
  return pool.workers().size() == count && count_of(pool, carom::worker_state::idle) == count;
}

const carom::test::helper_program on_one_cpu("on_one_cpu",
                                             [](const carom::test::helper_program::arguments&) {
                                               cpu_set_t mine, one;
                                               if (::sched_getaffinity(0, sizeof mine, &mine) != 0)
                                                 return 2;
                                               CPU_ZERO(&one);
                                               for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
                                                 if (CPU_ISSET(cpu, &mine)) CPU_SET(cpu, &one);
                                               if (::sched_setaffinity(0, sizeof one, &one) != 0)
                                                 return 2;
                                               carom::pool pool;
                                               if (pool.processes() != 1) return 1;
                                               if (!eventually(
                                                       [&] { return are_all_idle(pool, 1); }))
                                                 return 1;
                                               return pool.apply(tasks::square, 3) == 9 ? 0 : 1;
                                             });

}  // namespace

TEST_F(Parity, Pool_processes_are_as_many_as_there_are_usable_cpus) {
  carom::test::running_helper host(on_one_cpu);
  EXPECT_EQ(host.wait(), 0);
}

TEST_F(Parity, Pool_shrink_before_workers_have_started) {
  carom::pool pool{{.processes = 4, .initializer = carom::call(start_when_told)}};
  pool.shrink(3);
  EXPECT_EQ(pool.processes(), 1);
  EXPECT_THROW(pool.shrink(1), std::invalid_argument) << "one stays";
  board::set(start, 1);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_TRUE(eventually([&] { return are_all_idle(pool, 1); }));
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Parity, Pool_shrink_takes_the_idle_first) {
  carom::pool pool{{.processes = 4}};
  ASSERT_TRUE(eventually([&] { return are_all_idle(pool, 4); }));
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 2; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  ASSERT_TRUE(board::wait(begun, 2));
  EXPECT_THROW(pool.shrink(3), carom::process_error) << "two are idle";
  EXPECT_EQ(pool.processes(), 4) << "and nothing has changed";
  pool.shrink(2);
  EXPECT_TRUE(eventually([&] { return pool.workers().size() == 2; }));
  EXPECT_EQ(count_of(pool, carom::worker_state::busy), 2u) << "those that work are still there";
  std::set<pid_t> busy;
  for (const auto& each : held) busy.insert(each.worker_pid());
  board::set(release, 1);
  for (auto& each : held) EXPECT_TRUE(busy.contains(each.get()));
}

TEST_F(Parity, Pool_shrink_with_drain_takes_the_idle_first) {
  carom::pool pool{{.processes = 3}};
  ASSERT_TRUE(eventually([&] { return are_all_idle(pool, 3); }));
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  pool.shrink(2, carom::shrinking::drain);
  EXPECT_TRUE(eventually([&] { return pool.workers().size() == 1; }));
  EXPECT_EQ(count_of(pool, carom::worker_state::busy), 1u);
  board::set(release, 1);
  EXPECT_GT(held.get(), 0);
  EXPECT_TRUE(eventually([&] { return are_all_idle(pool, 1); })) << "and stays";
}

TEST_F(Parity, Pool_restart_while_all_are_busy) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 2; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  ASSERT_TRUE(board::wait(begun, 2));
  std::set<pid_t> before;
  for (const auto& each : held) before.insert(each.worker_pid());
  pool.restart();
  pool.restart();
  auto waiting = pool.apply_async(tasks::worker);
  board::set(release, 1);
  for (auto& each : held) EXPECT_TRUE(before.contains(each.get())) << "it finishes its task";
  EXPECT_GT(waiting.get(), 0);
  EXPECT_TRUE(eventually([&] {
    const auto all = pool.workers();
    return all.size() == 2 && std::none_of(all.begin(), all.end(), [&](const auto& one) {
             return before.contains(one.pid);
           });
  }));
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Parity, Pool_restart_while_workers_start) {
  carom::pool pool{{.processes = 2, .initializer = carom::call(start_when_told)}};
  ASSERT_TRUE(board::wait(started, 2));
  pool.restart();
  board::set(start, 1);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_TRUE(eventually([&] { return are_all_idle(pool, 2); }));
  EXPECT_EQ(board::get(started), 2u) << "who starts is new already";
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Parity, Pool_autoscale_sees_tasks_behind_a_long_one) {
  carom::pool pool{
      {.processes = 1, .autoscale = carom::autoscale_options{.min = 1, .max = 4, .interval = 5ms}}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 4; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  EXPECT_TRUE(board::wait(begun, 4)) << "each has a worker of its own";
  board::set(release, 1);
  std::set<pid_t> workers;
  for (auto& each : held) workers.insert(each.get());
  EXPECT_EQ(workers.size(), 4u);
}

TEST_F(Parity, Pool_autoscale_is_not_overruled) {
  carom::pool pool{
      {.processes = 3, .autoscale = carom::autoscale_options{.min = 2, .max = 4, .idle_time = 1h}}};
  ASSERT_TRUE(eventually([&] { return are_all_idle(pool, 3); }));
  EXPECT_THROW(pool.grow(2), std::invalid_argument);
  EXPECT_THROW(pool.shrink(2), std::invalid_argument);
  EXPECT_THROW(pool.shrink(2, carom::shrinking::drain), std::invalid_argument);
  EXPECT_EQ(pool.processes(), 3);
  pool.grow(1);
  EXPECT_EQ(pool.processes(), 4);
  EXPECT_TRUE(eventually([&] { return are_all_idle(pool, 4); }));
  pool.shrink(2);
  EXPECT_EQ(pool.processes(), 2);
  EXPECT_TRUE(eventually([&] { return are_all_idle(pool, 2); }));
}

TEST_F(Parity, Pool_terminate_job_of_no_process) {
  carom::pool pool{{.processes = 2, .initializer = carom::call(start_when_told)}};
  for (const pid_t pid : {0, -1, 1})
    EXPECT_THROW(pool.terminate_job(pid), carom::process_error) << pid;
  board::set(start, 1);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_THROW(pool.terminate_job(0), carom::process_error);
}

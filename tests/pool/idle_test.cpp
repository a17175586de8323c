// SPDX-License-Identifier: BSL-1.0
// What a pool costs when it has nothing to do.
#include <gtest/gtest.h>
#include <time.h>

#include <carom/carom.hpp>
#include <chrono>

#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

using namespace std::chrono_literals;

/// Context switches within a second of all that belongs to this test but its own thread.
std::uint64_t switches_in_a_second() {
  const auto count = [] {
    std::uint64_t all = carom::test::context_switches(::getpid(), ::gettid());
    for (const pid_t pid : carom::test::family_of(::getpid()))
      all += carom::test::context_switches(pid);
    return all;
  };
  const std::uint64_t before = count();
  carom::test::let_pass(1s);
  return count() - before;
}

void expect_idle() {
  EXPECT_TRUE(carom::test::eventually([] { return switches_in_a_second() == 0; }, 15s));
  EXPECT_EQ(switches_in_a_second(), 0U);
}

/// Processor time of all threads of this process.
std::chrono::nanoseconds processor_time() {
  ::timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace

TEST_F(Parity, Pool_idle_wakes_up_never) {
  carom::pool pool{{.processes = 3}};
  expect_idle();
  for (int i = 0; i < 1000; ++i) pool.apply_async(tasks::square, i);
  EXPECT_EQ(pool.map(tasks::square, std::vector(1000, 2)).size(), 1000U);
  EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  expect_idle();
}

TEST_F(Parity, Pool_idle_with_a_tiny_limit_behind_a_long_task) {
  carom::pool pool{{.processes = 1}};
  const auto held = pool.apply_async(tasks::hold, 0, 1);
  ASSERT_TRUE(tasks::board::wait(0));
  auto waiting = pool.apply_async({.time_limit = 1ns}, tasks::hold, 2, 3);
  auto softly = pool.map_async({.soft_time_limit = 1ns}, tasks::square, std::vector{1, 2, 3});
  const auto before = processor_time();
  carom::test::let_pass(500ms);
  EXPECT_LT(processor_time() - before, 100ms * carom::test::slowness) << "nothing can happen yet";
  tasks::board::set(1, 1);
  EXPECT_GT(held.get(), 0);
  EXPECT_THROW(waiting.get(), carom::time_limit_exceeded) << "and its limit is still looked at";
}

TEST_F(Parity, Pool_idle_with_a_long_task_wakes_up_never) {
  carom::pool pool{{.processes = 2}};
  const auto held = pool.apply_async(tasks::hold, 0, 1);
  ASSERT_TRUE(tasks::board::wait(0));
  expect_idle();
  tasks::board::set(1, 1);
  EXPECT_GT(held.get(), 0);
}

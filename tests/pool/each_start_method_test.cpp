// SPDX-License-Identifier: BSL-1.0
// What ends tasks and workers, however the workers are started: each row under fork, forkserver and
// spawn. A spawned worker shares no board with the test: tasks speak by this_task::progress.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

using carom::test::eventually;
using namespace std::chrono_literals;

pid_t worker() { return ::getpid(); }
int square(int x) { return x * x; }

void sleep_for_ever() {
  for (;;) ::pause();
}

int looks_at_checkpoints() {
  try {
    for (;;) {
      std::this_thread::sleep_for(5ms);
      carom::this_task::checkpoint();
    }
  } catch (const carom::soft_time_limit_exceeded&) {
    return 1;
  }
}

int sleeps() {
  try {
    for (;;) carom::this_task::sleep_for(1h);
  } catch (const carom::soft_time_limit_exceeded&) {
    return 2;
  }
}

/// A blocking system call that nothing wakes but a signal.
int waits_in_the_kernel() {
  ::poll(nullptr, 0, -1);
  return errno;
}

void leak_there(std::size_t bytes) {
  static std::vector<std::string> kept;
  kept.emplace_back(bytes, 'x');
}

void leak_there_and_stay(std::size_t bytes) {
  leak_there(bytes);
  sleep_for_ever();
}

__attribute__((noinline)) int writes_nowhere(std::uintptr_t address) {
  *reinterpret_cast<volatile int*>(address) = 1;
  return *reinterpret_cast<volatile int*>(address);
}
__attribute__((noinline)) int calls_what_writes_nowhere(std::uintptr_t address) {
  return writes_nowhere(address) + 1;
}

/// Has a child in a session of its own that no SIGTERM ends, and says who it is.
void leave_a_grandchild() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setsid();
    std::signal(SIGTERM, SIG_IGN);
    for (;;) ::pause();
  }
  carom::this_task::progress(static_cast<std::uint64_t>(child), 1);
}

void hang_with_a_grandchild() {
  leave_a_grandchild();
  sleep_for_ever();
}

class Pool_by_each_start_method : public Parity,
                                  public testing::WithParamInterface<carom::start_method> {
 protected:
  carom::pool_options one_worker() const { return {.processes = 1, .start_method = GetParam()}; }

  /// What the task that runs has said by this_task::progress, once it has.
  static pid_t told_by(carom::pool& pool) {
    pid_t told = 0;
    EXPECT_TRUE(eventually([&] {
      for (const auto& one : pool.workers())
        if (one.progress_total != 0) told = static_cast<pid_t>(one.progress_done);
      return told != 0;
    }));
    return told;
  }

  static bool is_gone(pid_t pid) {
    return eventually([&] {
      const auto status = carom::test::status_of(pid);
      return !status || status->state == 'Z';
    });
  }
};

INSTANTIATE_TEST_SUITE_P(Parity, Pool_by_each_start_method,
                         testing::Values(carom::start_method::fork, carom::start_method::forkserver,
                                         carom::start_method::spawn),
                         [](const auto& one) { return std::string(carom::to_string(one.param)); });

TEST_P(Pool_by_each_start_method, soft_time_limit_at_a_checkpoint) {
  carom::pool pool(one_worker());
  const pid_t first = pool.apply(worker);
  auto result = pool.apply_async({.soft_time_limit = 20ms}, looks_at_checkpoints);
  EXPECT_EQ(result.get(), 1);
  EXPECT_TRUE(result.soft_time_limit_passed());
  EXPECT_EQ(pool.apply(worker), first) << "a soft limit costs no worker";
}

TEST_P(Pool_by_each_start_method, soft_time_limit_wakes_a_sleep) {
  carom::pool pool(one_worker());
  const pid_t first = pool.apply(worker);
  EXPECT_EQ(pool.apply({.soft_time_limit = 20ms}, sleeps), 2);
  EXPECT_EQ(pool.apply(worker), first);
}

TEST_P(Pool_by_each_start_method, soft_time_limit_interrupts_a_system_call) {
  carom::pool pool(one_worker());
  const pid_t first = pool.apply(worker);
  EXPECT_EQ(pool.apply({.soft_time_limit = 20ms}, waits_in_the_kernel), EINTR);
  EXPECT_EQ(pool.apply(worker), first);
}

TEST_P(Pool_by_each_start_method, time_limit) {
  carom::pool pool(one_worker());
  const pid_t first = pool.apply(worker);
  EXPECT_THROW(pool.apply({.time_limit = 20ms}, sleep_for_ever), carom::time_limit_exceeded);
  EXPECT_NE(pool.apply(worker), first);
  EXPECT_TRUE(is_gone(first));
}

TEST_P(Pool_by_each_start_method, soft_then_hard_time_limit) {
  carom::pool pool(one_worker());
  auto result = pool.apply_async({.time_limit = 100ms, .soft_time_limit = 20ms}, sleep_for_ever);
  EXPECT_THROW(result.get(), carom::time_limit_exceeded);
  EXPECT_TRUE(result.soft_time_limit_passed());
  EXPECT_EQ(pool.apply(square, 3), 9);
  EXPECT_EQ(pool.metrics().died_workers, 0u) << "none but the one whose end was ordered";
}

TEST_P(Pool_by_each_start_method, terminate_a_task) {
  carom::pool pool(one_worker());
  for (const int signal : {SIGTERM, SIGKILL, SIGINT}) {
    auto result = pool.apply_async(sleep_for_ever);
    ASSERT_TRUE(eventually([&] { return result.accepted(); }));
    const pid_t pid = result.worker_pid();
    EXPECT_TRUE(result.terminate(signal));
    EXPECT_THROW(result.get(), carom::terminated);
    EXPECT_TRUE(is_gone(pid));
  }
  EXPECT_EQ(pool.apply(square, 3), 9);
}

TEST_P(Pool_by_each_start_method, terminate_job) {
  carom::pool pool(one_worker());
  auto result = pool.apply_async(sleep_for_ever);
  ASSERT_TRUE(eventually([&] { return result.accepted(); }));
  EXPECT_TRUE(pool.terminate_job(result.worker_pid()));
  EXPECT_THROW(result.get(), carom::terminated);
  EXPECT_EQ(pool.apply(square, 3), 9);
}

TEST_P(Pool_by_each_start_method, cancel) {
  carom::pool pool(one_worker());
  auto running = pool.apply_async(sleep_for_ever);
  ASSERT_TRUE(eventually([&] { return running.accepted(); }));
  auto waiting = pool.apply_async(square, 3);
  EXPECT_TRUE(waiting.cancel());
  EXPECT_THROW(waiting.get(), carom::terminated);
  EXPECT_FALSE(running.cancel());
  EXPECT_TRUE(running.terminate());
}

TEST_P(Pool_by_each_start_method, max_tasks_per_child) {
  carom::pool_options options = one_worker();
  options.max_tasks_per_child = 2;
  carom::pool pool(options);
  std::set<pid_t> workers;
  for (int i = 0; i < 6; ++i) workers.insert(pool.apply(worker));
  EXPECT_GE(workers.size(), 3u);
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_P(Pool_by_each_start_method, max_memory_per_child) {
  carom::pool_options options = one_worker();
  options.max_memory_per_child = 32 * mib;
  carom::pool pool(options);
  const pid_t first = pool.apply(worker);
  pool.apply(leak_there, 1 * mib);
  EXPECT_EQ(pool.apply(worker), first);
  pool.apply(leak_there, 64 * mib);
  EXPECT_NE(pool.apply(worker), first);
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_P(Pool_by_each_start_method, memory_limit) {
  carom::pool_options options = one_worker();
  options.memory_limit = 64 * mib;
  carom::pool pool(options);
  EXPECT_THROW(pool.apply(leak_there_and_stay, 128 * mib), carom::memory_limit_exceeded);
  EXPECT_EQ(pool.apply(square, 3), 9);
}

TEST_P(Pool_by_each_start_method, crash_report) {
  carom::pool pool(one_worker());
  const pid_t first = pool.apply(worker);
  try {
    pool.apply(calls_what_writes_nowhere, std::uintptr_t{0x123450});
    FAIL();
  } catch (const carom::worker_lost& e) {
    EXPECT_EQ(e.pid(), first);
    EXPECT_EQ(e.signal(), SIGSEGV);
    EXPECT_NE(e.backtrace().find("writes_nowhere"), std::string::npos) << e.backtrace();
    EXPECT_NE(std::string(e.what()).find("0x123450"), std::string::npos) << e.what();
  }
  EXPECT_EQ(pool.apply(square, 3), 9);
}

TEST_P(Pool_by_each_start_method, sentinel_is_the_workers) {
  carom::pool pool(one_worker());
  const pid_t first = pool.apply(worker);
  const auto all = pool.workers();
  ASSERT_EQ(all.size(), 1u);
  ASSERT_EQ(all[0].pid, first);
  ASSERT_GE(all[0].sentinel(), 0);
  std::ifstream told("/proc/self/fdinfo/" + std::to_string(all[0].sentinel()));
  pid_t named = 0;
  for (std::string word; told >> word;)
    if (word == "Pid:") told >> named;
  EXPECT_EQ(named, first);
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  EXPECT_TRUE(carom::test::wait_for_end(all[0].sentinel()));
}

TEST_P(Pool_by_each_start_method, grandchildren_die_with_a_task_over_its_limit) {
  carom::pool pool(one_worker());
  auto result = pool.apply_async({.time_limit = 1s}, hang_with_a_grandchild);
  const pid_t grandchild = told_by(pool);
  EXPECT_THROW(result.get(), carom::time_limit_exceeded);
  EXPECT_TRUE(is_gone(grandchild));
}

TEST_P(Pool_by_each_start_method, grandchildren_die_with_a_worker_that_is_killed) {
  carom::pool pool(one_worker());
  auto result = pool.apply_async(hang_with_a_grandchild);
  const pid_t grandchild = told_by(pool);
  ASSERT_EQ(::kill(result.worker_pid(), SIGKILL), 0);
  EXPECT_THROW(result.get(), carom::worker_lost);
  EXPECT_TRUE(is_gone(grandchild));
}

TEST_P(Pool_by_each_start_method, grandchildren_die_with_a_terminated_pool) {
  carom::pool pool(one_worker());
  auto result = pool.apply_async(hang_with_a_grandchild);
  const pid_t grandchild = told_by(pool);
  pool.terminate();
  pool.join();
  EXPECT_THROW(result.get(), carom::terminated);
  EXPECT_TRUE(is_gone(grandchild));
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// How a worker starts, and what is done about one that hangs or crashes.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <future>
#include <stdexcept>
#include <string>
#include <utility>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using namespace std::chrono_literals;

__attribute__((noinline)) int writes_nowhere(std::uintptr_t address) {
  *reinterpret_cast<volatile int*>(address) = 1;
  return *reinterpret_cast<volatile int*>(address);
}
__attribute__((noinline)) int calls_what_writes_nowhere(std::uintptr_t address) {
  return writes_nowhere(address) + 1;
}
void start_when_released() { board::wait(release, 1, std::chrono::minutes(1)); }
void never_ready() {
  for (;;) ::pause();
}

void hangs_at_start() {
  if (board::add(begun) == 0)
    for (;;) ::pause();
}

TEST_F(Parity, Pool_rlimits_nice_and_affinity) {
  cpu_set_t mine;
  ASSERT_EQ(::sched_getaffinity(0, sizeof mine, &mine), 0);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &mine)) ++cpu;
  carom::pool pool{{.processes = 1,
                    .rlimits = {{RLIMIT_NOFILE, 100, 200}, {RLIMIT_CORE, 0, 0}},
                    .nice = 5,
                    .cpu_affinity = {cpu}}};
  EXPECT_EQ(pool.apply(
                [](int resource) {
                  rlimit limit{};
                  ::getrlimit(static_cast<__rlimit_resource>(resource), &limit);
                  return std::pair(limit.rlim_cur, limit.rlim_max);
                },
                int{RLIMIT_NOFILE}),
            (std::pair<rlim_t, rlim_t>(100, 200)));
  EXPECT_EQ(pool.apply([] { return ::getpriority(PRIO_PROCESS, 0); }),
            ::getpriority(PRIO_PROCESS, 0) + 5);
  EXPECT_EQ(pool.apply([] {
    cpu_set_t set;
    ::sched_getaffinity(0, sizeof set, &set);
    return CPU_COUNT(&set);
  }),
            1);
  EXPECT_THROW(carom::pool({.cpu_affinity = {-1}}), std::invalid_argument);
  // A CPU that no machine of ours has: known when a worker asks for it.
  carom::pool impossible{{.processes = 1, .cpu_affinity = {CPU_SETSIZE - 1}}};
  try {
    impossible.apply(tasks::square, 1);
    FAIL();
  } catch (const carom::error& e) {
    EXPECT_NE(std::string(e.what()).find("cpu_affinity"), std::string::npos) << e.what();
  }
}

TEST_F(Parity, Pool_restarts_with_backoff) {
  carom::pool pool{
      {.processes = 1, .restarts = {.backoff = {.initial = 50ms, .multiplier = 2, .jitter = 0}}}};
  pool.apply(tasks::square, 1);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 2; ++i) EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 150ms) << "50 ms and 100 ms";
}

TEST_F(Parity, Pool_start_timeout) {
  carom::pool pool{
      {.processes = 1,
       .initializer = carom::call(hangs_at_start),
       .start_timeout = 300ms * carom::test::slowness}};  // enough for one that does not hang
  EXPECT_EQ(pool.apply(tasks::square, 3), 9) << "the first worker is killed, the second starts";
  EXPECT_FALSE(pool.did_start_ok());
}

TEST_F(Parity, Pool_start_timeout_after_close) {
  carom::pool pool{{.processes = 1, .initializer = carom::call(never_ready), .start_timeout = 1ms}};
  pool.close();
  EXPECT_NO_THROW(pool.join(4s))
      << "workers that have started and do not leave are given five seconds";
}

TEST_F(Parity, Pool_time_limit_is_not_the_initializers) {
  carom::pool pool{
      {.processes = 1, .initializer = carom::call(start_when_released), .time_limit = 20ms}};
  auto result = pool.apply_async(tasks::square, 3);
  carom::test::let_pass(100ms);
  EXPECT_FALSE(result.ready());
  board::set(release, 1);
  EXPECT_EQ(result.get(), 9);
}

TEST_F(Parity, Pool_claim_deadline) {
  carom::pool pool{{.processes = 1, .claim_deadline = 100ms}};
  const pid_t worker = pool.apply(tasks::worker);
  ASSERT_TRUE(carom::test::signal_family(::getpid(), worker, SIGSTOP));
  ASSERT_TRUE(eventually([&] { return carom::test::status_of(worker)->state == 'T'; }));
  EXPECT_NE(pool.apply(tasks::worker), worker) << "the task runs elsewhere";
  EXPECT_TRUE(eventually([&] { return pool.metrics().died_workers == 1; }))
      << "which counts as a death";
}

TEST_F(Parity, Pool_claim_deadline_is_told_before_the_kill) {
  std::promise<carom::kill_event> told;
  carom::pool pool{{.processes = 1,
                    .before_kill =
                        [&](const auto& e) {
                          told.set_value(e);
                          return 0ms;
                        },
                    .claim_deadline = 100ms}};
  const pid_t worker = pool.apply(tasks::worker);
  ASSERT_TRUE(carom::test::signal_family(::getpid(), worker, SIGSTOP));
  ASSERT_TRUE(eventually([&] { return carom::test::status_of(worker)->state == 'T'; }));
  EXPECT_NE(pool.apply(tasks::worker), worker);
  auto first = told.get_future();
  ASSERT_EQ(first.wait_for(20s), std::future_status::ready);
  const carom::kill_event event = first.get();
  EXPECT_EQ(event.pid, worker);
  EXPECT_EQ(event.reason, carom::kill_reason::hung);
  EXPECT_EQ(event.task_id, 0u);
  EXPECT_TRUE(eventually([&] { return !carom::test::status_of(worker); }));
  EXPECT_TRUE(eventually([&] { return pool.metrics().died_workers == 1; }));
}

TEST_F(Parity, Pool_crash_report) {
  carom::pool pool{{.processes = 1}};
  try {
    pool.apply(calls_what_writes_nowhere, std::uintptr_t{0x123450});
    FAIL();
  } catch (const carom::worker_lost& e) {
    EXPECT_EQ(e.signal(), SIGSEGV);
    EXPECT_NE(e.backtrace().find("writes_nowhere"), std::string::npos) << e.backtrace();
    EXPECT_NE(std::string(e.what()).find("0x123450"), std::string::npos) << e.what();
  }
}

}  // namespace

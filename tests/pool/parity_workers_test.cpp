// SPDX-License-Identifier: BSL-1.0
// Rows of api.md about workers: `maxtasksperchild`, `max_memory_per_child`, `grow`, `shrink`,
// `restart`, `did_start_ok`, `on_process_exit`, and what celery's users build by hand.
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>

#include <carom/carom.hpp>
#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using namespace std::chrono_literals;

constexpr unsigned begun = 0, release = 1, order = 2, left = 3;
constexpr std::size_t mib = 1 << 20;

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
int place_in_order(int) { return static_cast<int>(board::add(order)); }
void say_left() { board::add(left); }
/// Kills the worker the first times it is called.
int dies_first(int times, unsigned slot) {
  if (board::add(slot) < static_cast<std::uint32_t>(times)) std::raise(SIGKILL);
  return static_cast<int>(board::get(slot));
}
__attribute__((noinline)) int writes_nowhere(std::uintptr_t address) {
  *reinterpret_cast<volatile int*>(address) = 1;
  return *reinterpret_cast<volatile int*>(address);
}
__attribute__((noinline)) int calls_what_writes_nowhere(std::uintptr_t address) {
  return writes_nowhere(address) + 1;
}
void slow_start() { board::wait(release, 1, std::chrono::minutes(1)); }
void hangs_at_start() {
  if (board::add(begun) == 0)
    for (;;) ::pause();
}

std::set<pid_t> pids(const carom::pool& pool) {
  std::set<pid_t> all;
  for (const auto& one : pool.workers())
    if (one.pid != 0 && one.state != carom::worker_state::leaving) all.insert(one.pid);
  return all;
}
bool all_idle(const carom::pool& pool, std::size_t count) {
  const auto all = pool.workers();
  return all.size() == count && std::all_of(all.begin(), all.end(), [](const auto& w) {
           return w.state == carom::worker_state::idle;
         });
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

TEST_F(Parity, Pool_grow_and_shrink) {
  carom::pool pool{{.processes = 2}};
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 2); }));
  pool.grow(3);
  EXPECT_EQ(pool.processes(), 5);
  EXPECT_TRUE(eventually([&] { return all_idle(pool, 5); }));
  pool.shrink(4);
  EXPECT_EQ(pool.processes(), 1);
  EXPECT_TRUE(eventually([&] { return all_idle(pool, 1); }));
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Parity, Pool_shrink_of_busy_workers) {
  carom::pool pool{{.processes = 2}};
  auto first = pool.apply_async(tasks::hold, begun, release);
  auto second = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun, 2));
  EXPECT_THROW(pool.shrink(1), carom::process_error) << "all are busy";
  EXPECT_EQ(pool.processes(), 2);
  EXPECT_THROW(pool.shrink(2, carom::shrinking::drain), std::invalid_argument) << "one stays";
  EXPECT_THROW(pool.shrink(0), std::invalid_argument);
  EXPECT_THROW(pool.grow(-1), std::invalid_argument);
  EXPECT_THROW(pool.grow(1'000'000), std::invalid_argument);
  pool.shrink(1, carom::shrinking::drain);
  EXPECT_EQ(pool.processes(), 1);
  board::set(release, 1);
  EXPECT_NO_THROW(first.get());
  EXPECT_NO_THROW(second.get()) << "each finishes what it has begun";
  EXPECT_TRUE(eventually([&] { return all_idle(pool, 1); }));
}

TEST_F(Parity, Pool_restart_replaces_every_worker) {
  carom::pool pool{{.processes = 3}};
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 3); }));
  const auto before = pids(pool);
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  pool.restart();
  EXPECT_TRUE(eventually([&] {
    const auto now = pids(pool);
    std::size_t old = 0;
    for (const pid_t pid : now) old += before.contains(pid);
    return old == 1;
  })) << "all but the one that works";
  EXPECT_FALSE(held.ready());
  board::set(release, 1);
  EXPECT_TRUE(before.contains(held.get())) << "it finishes its task first";
  EXPECT_TRUE(eventually([&] {
    const auto now = pids(pool);
    return now.size() == 3 &&
           std::none_of(now.begin(), now.end(), [&](pid_t pid) { return before.contains(pid); });
  }));
  EXPECT_EQ(pool.metrics().died_workers, 0u);
  pool.close();
  EXPECT_THROW(pool.restart(), carom::pool_closed);
}

TEST_F(Parity, Pool_autoscale) {
  carom::pool pool{{.processes = 1,
                    .autoscale = carom::autoscale_options{
                        .min = 1, .max = 4, .idle_time = 50ms, .interval = 5ms}}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 20; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  EXPECT_TRUE(board::wait(begun, 4)) << "it grows while tasks wait";
  EXPECT_TRUE(eventually([&] { return pool.processes() == 4; }));
  board::set(release, 1);
  for (auto& each : held) EXPECT_NO_THROW(each.get()) << "nobody who works is taken away";
  EXPECT_TRUE(eventually([&] { return all_idle(pool, 1); })) << "and shrinks when they idle";
  EXPECT_THROW(carom::pool({.processes = 9, .autoscale = carom::autoscale_options{.max = 4}}),
               std::invalid_argument);
}

TEST_F(Parity, Pool_workers_snapshot) {
  carom::pool pool{{.processes = 2}};
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 2); }));
  auto held = pool.apply_async({.correlation_id = "of-the-test"}, tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  int busy = 0;
  int sentinel_of_busy = -1;
  std::vector<carom::worker_info> kept = pool.workers();
  for (const auto& one : kept) {
    EXPECT_GT(one.pid, 0);
    EXPECT_GE(one.sentinel(), 0);
    EXPECT_GT(one.memory, 0u);
    if (one.state != carom::worker_state::busy) continue;
    ++busy;
    EXPECT_EQ(one.task_id, held.id());
    EXPECT_NE(one.task_name.find("of-the-test"), std::string::npos) << one.task_name;
    EXPECT_GT(one.running_for.count(), 0);
    EXPECT_EQ(one.pid, held.worker_pid());
    sentinel_of_busy = one.sentinel();
  }
  EXPECT_EQ(busy, 1);
  pollfd ended{sentinel_of_busy, POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 0), 0);
  EXPECT_TRUE(held.terminate());
  EXPECT_EQ(::poll(&ended, 1, 20'000), 1) << "a sentinel tells of the end";
}

void report_and_hold(std::uint64_t done, std::uint64_t total) {
  carom::this_task::progress(done, total);
  tasks::hold(begun, release);
}

TEST_F(Parity, Pool_workers_show_the_progress_of_tasks) {
  carom::this_task::progress(1, 2);  // outside a task it does nothing
  carom::pool pool{{.processes = 1}};
  auto held = pool.apply_async(report_and_hold, 3, 10);
  ASSERT_TRUE(board::wait(begun));
  const auto busy = pool.workers();
  ASSERT_EQ(busy.size(), 1u);
  EXPECT_EQ(busy[0].progress_done, 3u);
  EXPECT_EQ(busy[0].progress_total, 10u);
  board::add(release);
  held.get();
  board::set(begun, 0);
  board::set(release, 0);
  auto silent = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  EXPECT_EQ(pool.workers().at(0).progress_total, 0u) << "the next task has said nothing yet";
  board::add(release);
  silent.get();
}

TEST_F(Parity, Pool_metrics) {
  carom::pool pool{{.processes = 1}};
  for (int i = 0; i < 10; ++i) pool.apply(tasks::square, i);
  EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  std::vector<carom::async_result<int>> waiting;
  for (int i = 0; i < 100; ++i) waiting.push_back(pool.apply_async(tasks::square, i));
  const auto m = pool.metrics();
  EXPECT_EQ(m.workers, 1u);
  EXPECT_EQ(m.idle, 0u);
  EXPECT_EQ(m.pending + m.under_way, 101u);
  EXPECT_EQ(m.finished, 10u);
  EXPECT_EQ(m.lost, 1u);
  EXPECT_EQ(m.started_workers, 2u);
  EXPECT_EQ(m.died_workers, 1u);
  EXPECT_EQ(m.dispatched, 12u + m.under_way - 1);
  board::set(release, 1);
  for (auto& each : waiting) each.get();
  EXPECT_GE(pool.metrics().longest_wait.count(), 0);
  EXPECT_GE(pool.metrics().waited, pool.metrics().longest_wait);
}

TEST_F(Parity, Pool_did_start_ok) {
  carom::pool pool{{.processes = 2}};
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 2); }));
  EXPECT_TRUE(pool.did_start_ok());
  EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  EXPECT_TRUE(pool.did_start_ok()) << "that was later";
  carom::pool broken{{.processes = 1, .initializer = carom::call(tasks::die_of, SIGKILL)}};
  EXPECT_TRUE(eventually([&] {
    try {
      return !broken.did_start_ok();
    } catch (const carom::pool_closed&) {
      return true;
    }
  }));
}

TEST_F(Parity, Pool_on_process_exit) {
  {
    carom::pool pool{{.processes = 2, .on_process_exit = carom::call(say_left)}};
    ASSERT_TRUE(eventually([&] { return all_idle(pool, 2); }));
    pool.close();
    pool.join();
  }
  EXPECT_EQ(board::get(left), 2u);
}

TEST_F(Parity, Pool_completion_fd) {
  carom::pool pool{{.processes = 1}};
  const int fd = pool.completion_fd();
  EXPECT_EQ(pool.completion_fd(), fd);
  pollfd readable{fd, POLLIN, 0};
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
  auto result = pool.apply_async(tasks::square, 3);
  ASSERT_EQ(::poll(&readable, 1, 20'000), 1);
  std::uint64_t count = 0;
  EXPECT_EQ(::read(fd, &count, sizeof count), 8);
  EXPECT_TRUE(result.ready());
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
  auto lost = pool.apply_async(tasks::die_of, SIGKILL);
  ASSERT_EQ(::poll(&readable, 1, 20'000), 1);
  EXPECT_TRUE(eventually([&] { return lost.ready(); }));
}

TEST_F(Parity, Pool_retry_of_lost_tasks) {
  carom::pool pool{{.processes = 2}};
  EXPECT_EQ(pool.apply({.retry = carom::retry_options{.attempts = 3}}, dies_first, 2, order), 3);
  try {
    pool.apply({.retry = carom::retry_options{.attempts = 3}}, tasks::die_of, SIGKILL);
    FAIL();
  } catch (const carom::worker_lost& e) {
    EXPECT_EQ(e.attempts(), 3u);
  }
  board::set(order, 0);
  EXPECT_EQ(pool.apply({.retry = carom::retry_options{.attempts = 2, .backoff = 20ms}}, dies_first,
                       1, order),
            2);
  EXPECT_EQ(pool.metrics().retried, 5u);
}

TEST_F(Parity, Pool_retry_of_map_items_and_of_the_pool) {
  carom::pool pool{{.processes = 2, .retry = {.attempts = 2}}};
  const auto squares = pool.map(
      [](int item) {
        if (item == 5 && board::add(order) == 0) std::raise(SIGKILL);
        return item * item;
      },
      std::vector{1, 2, 3, 4, 5, 6, 7, 8}, 1);
  EXPECT_EQ(squares[4], 25);
  EXPECT_THROW(
      pool.apply({.retry = carom::retry_options{.on_worker_lost = false}}, tasks::die_of, SIGKILL),
      carom::worker_lost);
}

TEST_F(Parity, Pool_retry_with_backoff_and_close) {
  carom::pool pool{{.processes = 1}};
  auto result = pool.apply_async({.retry = carom::retry_options{.attempts = 2, .backoff = 50ms}},
                                 dies_first, 1, order);
  ASSERT_TRUE(board::wait(order));
  pool.close();
  pool.join();
  EXPECT_EQ(result.get(), 2) << "a closed pool finishes what waits to be tried again";
}

TEST_F(Parity, Pool_priority) {
  carom::pool pool{{.processes = 1}};
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  // What is ahead at the worker already is not overtaken.
  std::vector<carom::async_result<int>> usual, urgent, idle;
  for (int i = 0; i < 20; ++i)
    idle.push_back(pool.apply_async({.priority = -1}, place_in_order, i));
  for (int i = 0; i < 20; ++i) usual.push_back(pool.apply_async(place_in_order, i));
  for (int i = 0; i < 20; ++i)
    urgent.push_back(pool.apply_async({.priority = 5}, place_in_order, i));
  board::set(release, 1);
  const auto sum = [](auto& results) {
    int all = 0;
    for (auto& each : results) all += each.get();
    return all;
  };
  const int of_urgent = sum(urgent), of_usual = sum(usual), of_idle = sum(idle);
  EXPECT_LT(of_urgent, of_usual);
  EXPECT_LT(of_usual, of_idle);
  EXPECT_GT(idle.back().get(), urgent.back().get());
}

TEST_F(Parity, Pool_deadline) {
  carom::pool pool{{.processes = 1}};
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  std::vector<carom::async_result<int>> late;
  for (int i = 0; i < 10; ++i)
    late.push_back(pool.apply_async({.deadline = 20ms}, place_in_order, i));
  for (auto& each : late) EXPECT_THROW(each.get(), carom::timeout_error);
  board::set(release, 1);
  held.get();
  EXPECT_EQ(pool.apply({.deadline = 1h}, place_in_order, 0), 0) << "none of the late ones ran";
  EXPECT_EQ(pool.metrics().expired, 10u);
}

TEST_F(Parity, Pool_rate_limit) {
  carom::pool pool{
      {.processes = 2,
       .rate_limit = carom::rate_limit_options{.tasks = 100, .period = 1s, .burst = 5}}};
  const auto start = std::chrono::steady_clock::now();
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 25; ++i) results.push_back(pool.apply_async(tasks::square, i));
  for (auto& each : results) each.get();
  EXPECT_GE(std::chrono::steady_clock::now() - start, 200ms) << "20 beyond the burst, 10 ms each";
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
  carom::pool impossible{{.processes = 1, .rlimits = {{9999, 1, 1}}}};
  try {
    impossible.apply(tasks::square, 1);
    FAIL();
  } catch (const carom::error& e) {
    EXPECT_NE(std::string(e.what()).find("rlimits"), std::string::npos) << e.what();
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

TEST_F(Parity, Pool_time_limit_is_not_the_initializers) {
  carom::pool pool{{.processes = 1, .initializer = carom::call(slow_start), .time_limit = 20ms}};
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
  EXPECT_EQ(pool.metrics().died_workers, 1u) << "which counts as a death";
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

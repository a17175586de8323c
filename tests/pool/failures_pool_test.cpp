// SPDX-License-Identifier: BSL-1.0
// Rows of failures.md about a pool as a whole: its slots, its queue, its start and its end.
#include <gtest/gtest.h>

#include <array>
#include <carom/carom.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <ranges>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::worker_roster;
using namespace std::chrono_literals;

void fail_to_start() {
  board::add(starts);
  throw std::runtime_error("no licence");
}
void first_fails() {
  if (board::add(starts) == 0) throw std::runtime_error("not this time");
}

/// Whether so many tasks run at the same time.
bool all_slots_work(carom::pool& pool, unsigned workers, unsigned begin_at, unsigned end_at) {
  std::vector<carom::async_result<pid_t>> held;
  for (unsigned i = 0; i < workers; ++i)
    held.push_back(pool.apply_async(tasks::hold, begin_at, end_at));
  const bool together = board::wait(begin_at, workers);
  board::set(end_at, 1);
  std::set<pid_t> pids;
  for (const auto& each : held) pids.insert(each.get());
  return together && pids.size() == workers;
}

std::size_t shared_memory_files() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
    count += entry.path().filename().native().find("carom") != std::string::npos;
  return count;
}

}  // namespace

TEST_F(Failures, 16_host_with_busy_threads_starts_pools_and_workers) {
  std::mutex mutex;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&](std::stop_token stop) {
      while (
          !stop.stop_requested()) {  // holds malloc's, stdio's and its own locks most of the time
        std::lock_guard lock(mutex);
        std::vector<std::string> garbage(50, std::string(100, 'x'));
        std::fputs("", stderr);
      }
    });
  for (int i = 0; i < 10; ++i) {
    carom::pool pool{{.processes = 2}};
    EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
    EXPECT_EQ(pool.apply([] { return std::string(1000, 'y').size(); }), 1000U);
  }
}

TEST_F(Failures, 17_a_restart_storm_ends_in_an_error) {
  carom::pool pool{{.processes = 4, .initializer = carom::call(fail_to_start)}};
  try {
    pool.apply(tasks::square, 1);
    FAIL() << "the task has run";
  } catch (const carom::restart_freq_exceeded& e) {
    EXPECT_NE(e.cause().find("no licence"), std::string::npos) << e.cause();
  } catch (const carom::pool_closed&) {  // it had stopped before the call
  }
  carom::test::let_pass(200ms);  // those that were starting at the end
  const std::uint32_t forks = board::get(starts);
  EXPECT_LE(forks, 2 * (10 * 4 + 4));
  carom::test::let_pass(300ms);
  EXPECT_EQ(board::get(starts), forks) << "no more forks, and the host lives";
}

TEST_F(Failures, 19_one_failed_start_is_tried_again) {
  carom::pool pool{{.processes = 2, .initializer = carom::call(first_fails)}};
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_TRUE(all_slots_work(pool, 2, begun, release));
}

TEST_F(Failures, 24_each_outcome_has_its_exact_type) {
  carom::pool pool{{.processes = 1, .max_pending = 3, .overflow = carom::overflow::reject}};
  EXPECT_EQ(pool.apply(tasks::square, 2), 4);
  EXPECT_THROW(pool.apply([] { throw std::range_error("r"); }), std::range_error);
  EXPECT_THROW(pool.apply([] { throw 'c'; }), carom::remote_error);
  EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 3; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  EXPECT_THROW(pool.apply_async(tasks::nothing), carom::queue_full);
  EXPECT_THROW(held[0].get(1ms), carom::timeout_error);
  EXPECT_THROW(pool.join(), carom::error);
  pool.terminate();
  for (const auto& each : held) EXPECT_THROW(each.get(), carom::terminated);
  EXPECT_THROW(pool.apply_async(tasks::nothing), carom::pool_closed);
}

TEST_F(Failures, 29_no_slot_leaks) {
  constexpr unsigned workers = 3;
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = workers}));
  for (unsigned round = 0; round < 10; ++round) {
    ASSERT_TRUE(roster.wait_for_alive(workers));
    if (round % 2)
      EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
    else
      EXPECT_TRUE(roster.kill_one());
    ASSERT_TRUE(roster.wait_for_downs(round + 1));
  }
  ASSERT_TRUE(roster.wait_for_alive(workers));
  EXPECT_TRUE(all_slots_work(pool, workers, begun, release));
  EXPECT_EQ(roster.alive().size(), workers) << "and none too many";
}

TEST_F(Failures, 30_short_tasks_do_not_wait_behind_a_long_one) {
  carom::pool pool{{.processes = 2}};
  for (unsigned round = 0; round < 20; ++round) {
    const unsigned begin_at = 10 + 2 * round, end_at = begin_at + 1;
    std::vector<carom::async_result<int>> results;
    for (int i = 0; i < 50; ++i) results.push_back(pool.apply_async(tasks::square, i));
    const auto held = pool.apply_async(tasks::hold, begin_at, end_at);
    for (int i = 50; i < 100; ++i) results.push_back(pool.apply_async(tasks::square, i));
    for (int i = 0; i < 100; ++i)
      ASSERT_EQ(results[static_cast<std::size_t>(i)].get(30s), i * i) << "round " << round;
    EXPECT_FALSE(held.ready());
    board::set(end_at, 1);
    EXPECT_GT(held.get(), 0);
  }
}

TEST_F(Failures, 31_back_pressure_bounds_memory) {
  carom::pool pool{{.processes = 2, .max_pending_bytes = 4 << 20}};
  const std::string megabyte(1 << 20, 'x');
  const auto length = [](const std::string& s) { return s.size(); };
  for (int i = 0; i < 20; ++i) pool.apply_async(length, megabyte);
  const std::uint64_t early = carom::test::resident_bytes(::getpid());
  for (int i = 0; i < 300; ++i) pool.apply_async(length, megabyte);
  EXPECT_LE(carom::test::resident_bytes(::getpid()), early + (16 << 20));
}

TEST_F(Failures, 33_which_worker_runs_what) {
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 3}));
  ASSERT_TRUE(roster.wait_for_alive(3));
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 3; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  const auto queued = pool.apply_async(tasks::worker);
  ASSERT_TRUE(board::wait(begun, 3));
  std::set<pid_t> told;
  for (const auto& each : held) told.insert(each.worker_pid());
  EXPECT_EQ(told, roster.alive());
  EXPECT_EQ(queued.worker_pid(), 0);
  std::vector<pid_t> before;
  for (const auto& each : held) before.push_back(each.worker_pid());
  board::set(release, 1);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(held[i].get(), before[i]) << "it was the truth";
}

TEST_F(Failures, 35_shutdown_settles_every_result_and_returns) {
  for (int round = 0; round < 30; ++round) {
    std::vector<carom::async_result<int>> results;
    {
      carom::pool pool{{.processes = 2}};
      for (int i = 0; i < 300; ++i) results.push_back(pool.apply_async(tasks::square, i));
      if (round % 3 == 0) results.push_back(pool.apply_async(tasks::die_of, SIGKILL));
      if (round % 2) pool.close();
      if (round % 2) pool.join(30s);
    }
    for (const auto& each : results) EXPECT_TRUE(each.ready());
  }
}

TEST_F(Failures, 35_shutdown_with_workers_that_are_stopped) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 2; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  ASSERT_TRUE(board::wait(begun, 2));
  for (const auto& each : held) ::kill(each.worker_pid(), SIGSTOP);
  pool.terminate();
  pool.join(30s);
  for (const auto& each : held) EXPECT_THROW(each.get(), carom::terminated);
}

TEST_F(Failures, 35_shutdown_with_workers_that_ignore_signals) {
  carom::pool pool{{.processes = 1}};
  const auto stubborn = pool.apply_async(
      [](unsigned at, unsigned until) {
        for (int signal = 1; signal < 32; ++signal) std::signal(signal, SIG_IGN);
        tasks::hold(at, until);
      },
      begun, release);
  ASSERT_TRUE(board::wait(begun));
  pool.terminate();
  pool.join(30s);
  EXPECT_THROW(stubborn.get(), carom::terminated);
}

TEST_F(Failures, 37_pool_cycles_leave_nothing_behind) {
  const int cycles = std::getenv("CAROM_FULL") ? 10'000 : 50;
  const std::size_t files = shared_memory_files();
  { carom::pool first{{.processes = 1}}; }
  ASSERT_TRUE(carom::test::eventually([] { return carom::test::threads_of(::getpid()) == 1; }));
  const auto before = carom::test::holdings::now();
  for (int i = 0; i < cycles; ++i) {
    carom::pool pool{{.processes = 2}};
    EXPECT_EQ(pool.apply(tasks::square, i % 100), (i % 100) * (i % 100));
    if (i % 5 == 0) pool.apply([] { return std::string(200'000, 'x'); });
    if (i % 3 == 0) pool.apply_async(tasks::die_of, SIGKILL);
    if (i % 2) pool.close();
    if (i % 2) pool.join();
  }
  EXPECT_TRUE(carom::test::eventually([&] { return carom::test::holdings::now().within(before); }))
      << "before: " << before << "\nafter:  " << carom::test::holdings::now();
  EXPECT_EQ(shared_memory_files(), files);
}

// SPDX-License-Identifier: BSL-1.0
// Many tasks while workers, or the servers that fork them, are killed: every task ends exactly
// once.
#include <gtest/gtest.h>

#include <atomic>
#include <carom/carom.hpp>
#include <cstdlib>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::fork_servers_of;
using carom::test::helper_program;
using carom::test::repeatedly;
using carom::test::running_helper;
using carom::test::server_pids;
using carom::test::signal_family;
using carom::test::worker_roster;

// Under a sanitizer it takes longer until a worker is there that may be killed.
using carom::test::slowness;
const int task_count = std::getenv("CAROM_FULL") ? 1'000'000 : 50'000 / slowness;

// One word of the board for each task that is under way; the window is smaller than the board.
constexpr unsigned first_slot = 1000;
constexpr unsigned slot_count = board::slots - first_slot;
constexpr std::size_t window = 4000;

/// Counts its runs, and is slow enough that kills meet running tasks.
int counted(int number) {
  board::add(first_slot + static_cast<unsigned>(number) % slot_count);
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
  while (std::chrono::steady_clock::now() < end) {
  }
  return number;
}

struct tally {
  int values = 0, lost = 0, others = 0;
  std::atomic<int> ended = 0;
};

/// Runs all tasks with a bounded number of them under way, and counts how they end.
void run_tasks(carom::pool& pool, tally& ended) {
  std::deque<std::pair<int, carom::async_result<int>>> under_way;
  const auto finish = [&] {
    const auto [number, result] = under_way.front();
    const unsigned slot = first_slot + static_cast<unsigned>(number) % slot_count;
    ASSERT_TRUE(result.wait(std::chrono::seconds(60))) << "task " << number << " hangs";
    try {
      (result.get() == number ? ended.values : ended.others)++;
      EXPECT_EQ(board::get(slot), 1U) << "runs of task " << number << ", which has a value";
    } catch (const carom::worker_lost& e) {
      ++ended.lost;
      EXPECT_LE(board::get(slot), 1U) << "runs of task " << number << ": " << e.what();
    } catch (const std::exception& e) {
      ++ended.others;
      ADD_FAILURE() << "task " << number << ": " << e.what();
    }
    board::set(slot, 0);
    under_way.pop_front();
  };
  for (int i = 0; i < task_count; ++i) {
    auto result = pool.apply_async(counted, i);
    result.then([&ended](auto) { ++ended.ended; });
    under_way.emplace_back(i, std::move(result));
    if (under_way.size() < window) continue;
    ASSERT_NO_FATAL_FAILURE(finish());
  }
  while (!under_way.empty()) ASSERT_NO_FATAL_FAILURE(finish());
}

void expect_each_ended_once(tally& ended) {
  EXPECT_EQ(ended.values + ended.lost, task_count);
  EXPECT_EQ(ended.others, 0);
  EXPECT_TRUE(carom::test::eventually([&] { return ended.ended == task_count; }))
      << ended.ended << " continuations";
}

/// Kills keeper or forker, but not the last of them: both at once are more than can be survived.
bool kill_server(pid_t server_pids::*which) {
  const server_pids servers = fork_servers_of(::getpid());
  return servers.keeper && servers.forker && signal_family(::getpid(), servers.*which, SIGKILL);
}

void survive_kills_of(std::vector<pid_t server_pids::*> victims) {
  worker_roster roster;
  tally ended;
  std::atomic<std::size_t> turn = 0;
  {
    carom::pool pool(roster.watch({.processes = 2}));
    repeatedly killer(5 / slowness, [&] { return kill_server(victims[turn++ % victims.size()]); });
    // Workers that die meanwhile are replaced by servers that die.
    repeatedly more(10 / slowness, [&] { return roster.kill_one(); });
    run_tasks(pool, ended);
    more.stop();
    EXPECT_GT(killer.stop(), 3 / slowness);
    ASSERT_TRUE(roster.wait_for_alive(2));
    EXPECT_EQ(pool.apply(tasks::square, 5), 25);
  }
  expect_each_ended_once(ended);
  EXPECT_TRUE(carom::test::eventually([] {
    const server_pids servers = fork_servers_of(::getpid());
    return servers.keeper && servers.forker;
  })) << "both servers are there again";
}

/// Loses keeper and forker at the same instant while tasks run and wait. Ends in 0 if all of them
/// end and the pool says why it has.
const helper_program host_without_servers("host_without_servers", [](const auto&) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  carom::pool pool({.processes = 2, .restarts = {.max_restarts = 1'000'000}});
  std::vector<carom::async_result<pid_t>> results;
  for (int i = 0; i < 10; ++i) results.push_back(pool.apply_async(tasks::hold, 0u, 1u));
  board::wait(0, 2);
  const server_pids servers = fork_servers_of(::getpid());
  for (const int signal : {SIGSTOP, SIGKILL})
    for (const pid_t server : {servers.keeper, servers.forker})
      if (!signal_family(::getpid(), server, signal)) return 1;
  int ended = 0;
  for (const auto& result : results) {
    if (!result.wait(std::chrono::seconds(30))) return 2;
    try {
      result.get();
    } catch (const carom::worker_lost&) {
      ++ended;
    } catch (const carom::restart_freq_exceeded& e) {
      ended += std::string(e.what()).find("keeper") != std::string::npos;
    }
  }
  if (ended != 10) return 3;
  try {
    pool.apply(tasks::nothing);
    return 4;
  } catch (const carom::pool_closed&) {
  }
  pool.close();
  pool.join(std::chrono::seconds(30));
  return carom::test::eventually([] { return carom::test::family_of(::getpid()).empty(); }) ? 0 : 5;
});

}  // namespace

TEST_F(Chaos, both_servers_killed_at_once_end_the_pool) {
  running_helper host(host_without_servers);
  EXPECT_EQ(host.wait(), std::optional(0)) << "its wait status";
}

TEST_F(Chaos, workers_killed_fifty_times_a_second) {
  worker_roster roster;
  tally ended;
  {
    carom::pool pool(roster.watch({.processes = 4}));
    repeatedly killer(50 / slowness, [&] { return roster.kill_one(); });
    run_tasks(pool, ended);
    EXPECT_GT(killer.stop(), 10 / slowness);
    ASSERT_TRUE(roster.wait_for_alive(4));
    EXPECT_EQ(pool.apply(tasks::square, 5), 25);
  }
  EXPECT_GT(ended.lost, 0) << "kills have met running tasks";
  expect_each_ended_once(ended);
}

TEST_F(Chaos, maps_while_workers_are_killed) {
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 3}));
  repeatedly killer(50 / slowness, [&] { return roster.kill_one(); });
  for (int round = 0; round < 20; ++round) {
    const auto outcomes = pool.try_map(
        [](int x) {
          carom::test::let_pass(std::chrono::microseconds(50));
          return x;
        },
        std::views::iota(0, 500), 50);
    ASSERT_EQ(outcomes.size(), 500U);
    for (int i = 0; i < 500; ++i) {
      const auto& outcome = outcomes[static_cast<std::size_t>(i)];
      if (outcome)
        EXPECT_EQ(outcome.value(), i);
      else
        EXPECT_THROW(outcome.value(), carom::worker_lost);
    }
  }
}

TEST_F(Chaos, large_values_while_workers_are_killed) {
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 3}));
  repeatedly killer(30 / slowness, [&] { return roster.kill_one(); });
  int right = 0, lost = 0;
  for (int round = 0; round < 40; ++round) {
    std::vector<carom::async_result<std::string>> results;
    for (std::size_t i = 0; i < 10; ++i)
      results.push_back(pool.apply_async([](std::string s) { return s + "!"; },
                                         std::string(100'000 * i, static_cast<char>('a' + i))));
    for (std::size_t i = 0; i < 10; ++i) {
      try {
        right += results[i].get() == std::string(100'000 * i, static_cast<char>('a' + i)) + "!";
      } catch (const carom::worker_lost&) {
        ++lost;
      }
    }
  }
  EXPECT_EQ(right + lost, 400);
}

TEST_F(Chaos, forker_killed_five_times_a_second) { survive_kills_of({&server_pids::forker}); }

TEST_F(Chaos, keeper_killed_five_times_a_second) { survive_kills_of({&server_pids::keeper}); }

TEST_F(Chaos, keeper_and_forker_killed_in_turn) {
  survive_kills_of({&server_pids::keeper, &server_pids::forker});
}

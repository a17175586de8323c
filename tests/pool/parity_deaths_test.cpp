// SPDX-License-Identifier: BSL-1.0
// Rows of api.md about deaths of workers: which of them count, with which signal they come, and
// what is known of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/endless_task.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using carom::test::worker_roster;
using namespace std::chrono_literals;

void hoard() {
  static std::vector<std::string> kept;
  kept.emplace_back(96 * mib, 'x');
  tasks::for_ever();
}
/// Allows no death that the pool has not ordered.
constexpr carom::restart_options none_allowed{.max_restarts = 0, .period = 1h};

}  // namespace

TEST_F(Parity, Pool_max_restarts_of_none_ends_with_the_first_death) {
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 2, .restarts = none_allowed}));
  ASSERT_TRUE(roster.wait_for_alive(2));
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  ASSERT_TRUE(roster.kill_one());
  EXPECT_TRUE(eventually([&] {
    try {
      pool.apply(tasks::nothing);
      return false;
    } catch (const carom::pool_closed& e) {
      return std::string(e.what()).find("1 worker died") != std::string::npos;
    } catch (const carom::restart_freq_exceeded&) {
      return false;
    }
  }));
  EXPECT_EQ(roster.ups(), 2) << "nobody is replaced";
  pool.close();
  pool.join(60s);
}

TEST_F(Parity, Pool_deaths_for_time_limits_never_count) {
  carom::pool pool{{.processes = 1, .restarts = none_allowed, .time_limit = 20ms}};
  for (int i = 0; i < 3; ++i) EXPECT_THROW(pool.apply(tasks::for_ever), carom::time_limit_exceeded);
  EXPECT_THROW(pool.map([](int) { tasks::for_ever(); }, std::vector{1, 2, 3}),
               carom::time_limit_exceeded);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Parity, Pool_deaths_for_memory_limits_never_count) {
  carom::pool pool{{.processes = 1, .restarts = none_allowed, .memory_limit = 64 * mib}};
  for (int i = 0; i < 2; ++i) EXPECT_THROW(pool.apply(hoard), carom::memory_limit_exceeded);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(pool.metrics().died_workers, 0u);
  EXPECT_EQ(pool.metrics().over_memory, 2u);
}

TEST_F(Parity, Pool_deaths_for_shrink_and_restart_never_count) {
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 3, .restarts = none_allowed}));
  ASSERT_TRUE(roster.wait_for_alive(3));
  pool.shrink(2);
  ASSERT_TRUE(roster.wait_for_downs(2));
  pool.restart();
  ASSERT_TRUE(roster.wait_for_downs(3));
  ASSERT_TRUE(roster.wait_for_alive(1));
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Parity, Pool_kill_signal) {
  for (const int signal : {SIGUSR2, SIGINT, SIGKILL}) {
    SCOPED_TRACE(signal);
    board::reset();
    worker_roster roster;
    carom::pool pool(roster.watch({.processes = 1, .kill_grace = 1h, .kill_signal = signal}));
    auto result = pool.apply_async({.time_limit = 50ms}, [] {
      for (const int one : {SIGUSR2, SIGINT, SIGTERM}) std::signal(one, SIG_DFL);
      tasks::for_ever();
    });
    EXPECT_THROW(result.get(), carom::time_limit_exceeded);
    ASSERT_TRUE(roster.wait_for_downs(1)) << "long before the grace is over";
    const int status = roster.downs().front().exit_status;
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), signal);
  }
}

TEST_F(Parity, Pool_kill_grace_ends_in_a_kill) {
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 1, .time_limit = 50ms, .kill_grace = 20ms}));
  EXPECT_THROW(pool.apply([] {
    std::signal(SIGTERM, SIG_IGN);
    tasks::for_ever();
  }),
               carom::time_limit_exceeded);
  ASSERT_TRUE(roster.wait_for_downs(1));
  EXPECT_EQ(WTERMSIG(roster.downs().front().exit_status), SIGKILL);
}

TEST_F(Parity, Pool_worker_lost_hints_at_a_lack_of_memory) {
  carom::pool pool{{.processes = 1}};
  try {
    pool.apply(tasks::die_of, SIGKILL);
    FAIL();
  } catch (const carom::worker_lost& e) {
    EXPECT_EQ(e.signal(), SIGKILL);
    EXPECT_NE(std::string(e.what()).find("if memory ran out"), std::string::npos) << e.what();
  }
  try {
    pool.apply(tasks::die_of, SIGTERM);
    FAIL();
  } catch (const carom::worker_lost& e) {
    EXPECT_EQ(std::string(e.what()).find("memory ran out"), std::string::npos) << e.what();
  }
}

TEST_F(Parity, Pool_memory_limit_of_map_items) {
  carom::pool pool{{.processes = 2, .memory_limit = 64 * mib}};
  const auto outcomes = pool.try_map(
      [](int item) {
        if (item == 3) hoard();
        return item;
      },
      std::vector{0, 1, 2, 3, 4, 5, 6, 7}, 8);
  ASSERT_EQ(outcomes.size(), 8u);
  for (int i = 0; i < 8; ++i) {
    const auto& one = outcomes[static_cast<std::size_t>(i)];
    EXPECT_EQ(one.has_value(), i != 3) << i << ": only the item that took too much is lost";
  }
  EXPECT_EQ(pool.metrics().over_memory, 1u);
  EXPECT_THROW(pool.map([](int) { hoard(); }, std::vector{1}), carom::memory_limit_exceeded);
}

TEST_F(Failures, 22_all_workers_together_have_a_limit) {
  carom::pool pool{{.processes = 2, .pool_memory_limit = 128 * mib}};
  std::vector<carom::async_result<void>> both;
  for (int i = 0; i < 2; ++i) both.push_back(pool.apply_async(hoard));
  EXPECT_TRUE(eventually([&] { return both[0].ready() || both[1].ready(); }))
      << "each is within the limit, both are not";
  auto& ended = both[0].ready() ? both[0] : both[1];
  auto& lives = both[0].ready() ? both[1] : both[0];
  try {
    ended.get();
    FAIL();
  } catch (const carom::memory_limit_exceeded& e) {
    EXPECT_EQ(e.limit(), 128 * mib);
    EXPECT_LT(e.memory(), 128 * mib) << "its own";
    EXPECT_THAT(e.what(), testing::HasSubstr("raise pool_memory_limit"));
  }
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_FALSE(lives.ready()) << "one is enough";
  EXPECT_EQ(pool.metrics().over_memory, 1u);
}

TEST_F(Failures, 23_a_missing_exit_status_is_not_waited_for_while_others_die) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  constexpr int processes = 12;
  {
    carom::pool pool{{.processes = processes}};
    std::vector<carom::async_result<pid_t>> held;
    for (int i = 0; i < processes; ++i)
      held.push_back(pool.apply_async(tasks::hold, begun, release));
    ASSERT_TRUE(board::wait(begun, processes));
    std::vector<pid_t> workers;
    for (const auto& each : held) workers.push_back(each.worker_pid());
    // Nobody is left to tell of an exit.
    const auto servers = carom::test::fork_servers_of(::getpid());
    for (const pid_t one : {servers.keeper, servers.forker}) {
      ASSERT_TRUE(carom::test::signal_family(::getpid(), one, SIGSTOP));
      ASSERT_TRUE(eventually([&] { return carom::test::status_of(one)->state == 'T'; }));
    }
    int killed = 0;
    while (killed < processes && !held[0].ready()) {
      ::kill(workers[static_cast<std::size_t>(killed)], SIGKILL);
      ++killed;
      const auto buried = static_cast<std::uint64_t>(killed);
      EXPECT_TRUE(eventually([&] { return pool.metrics().died_workers == buried; }));
      carom::test::let_pass(100ms);
    }
    EXPECT_TRUE(held[0].ready()) << "though others go on dying";
    for (const pid_t one : {servers.keeper, servers.forker})
      carom::test::signal_family(::getpid(), one, SIGCONT);
    EXPECT_THROW(held[0].get(60s), carom::worker_lost);
    pool.terminate();
    pool.join(60s);
  }
  carom::set_log(nullptr);
}

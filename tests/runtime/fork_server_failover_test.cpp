// SPDX-License-Identifier: BSL-1.0
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <random>
#include <set>
#include <string>

#include "tests/runtime/fork_server_support.hpp"

namespace carom::runtime {
namespace {

using namespace testing;

class ForkServerFailover : public ForkServer {
 protected:
  ForkServerFailover() { start(); }

  void kill_forker() { kill_and_await_news(server_->forker_pid()); }
  /// Its forker, which becomes keeper, keeps its number.
  void kill_keeper() { kill_and_await_news(server_->keeper_pid()); }

  void expect_lives(std::uint64_t id) {
    tell(to(id), "pid");
    EXPECT_EQ(answer_of(to(id)), std::to_string(pid_of(id)));
    EXPECT_EQ(seen_.workers[id].exited, 0);
  }

  void expect_exits(std::uint64_t id, int code) {
    tell(to(id), "exit " + std::to_string(code));
    await_exit(id);
    const exit_info& exit = seen_.workers[id].exit;
    EXPECT_EQ(exit.pid, pid_of(id));
    // Older kernels do not tell the exit of a process that has become a stranger.
    EXPECT_TRUE(!exit.known || WEXITSTATUS(exit.status) == code) << exit.status;
  }

  /// Runs many short workers while `kill_one(n)` is called again and again, then checks that none
  /// was lost, started twice or reported twice.
  template <class Kill>
  void run_under_fire(Kill kill_one) {
    constexpr std::size_t total = 600, at_a_time = 24, kill_every = 12;
    std::set<pid_t> killed;
    std::size_t kills = 0;
    for (std::uint64_t asked = 0; seen_.ended < total && !seen_.lost && !HasFailure();) {
      while (asked < total && asked - seen_.ended < at_a_time) {
        const auto id = fork_one();
        tell(to(id), "pid");
        tell(to(id), "exit " + std::to_string(id % 200));
        ++asked;
      }
      // Two dead at once is another matter: the next dies when the last one is replaced.
      const bool replaced =
          !killed.contains(server_->keeper_pid()) && !killed.contains(server_->forker_pid());
      if (replaced && seen_.ended >= kills * kill_every) {
        const pid_t victim = kill_one(kills++) ? server_->keeper_pid() : server_->forker_pid();
        killed.insert(victim);
        std::uniform_int_distribution<int> pause(0, 20'000);
        for (volatile int spins = pause(random_); spins > 0;) spins = spins - 1;
        ASSERT_EQ(::kill(victim, SIGKILL), 0);
      }
      const auto before = seen_.ended;
      pump_until([&] { return seen_.ended != before || seen_.lost; });
    }
    EXPECT_FALSE(seen_.lost);
    EXPECT_GE(kills, 10u);
    EXPECT_EQ(seen_.workers.size(), total);
    for (auto& [id, worker] : seen_.workers) {
      EXPECT_EQ(worker.forked, 1) << id;
      EXPECT_EQ(worker.failed, 0) << id;
      EXPECT_EQ(worker.exited, 1) << id;
      EXPECT_TRUE(!worker.exit.known || worker.exit.status == static_cast<int>(id % 200) << 8)
          << id;
      EXPECT_EQ(answer_of(to(id)), std::to_string(worker.pid)) << id;
      message more;
      EXPECT_EQ(to(id).receive(more), channel_errc::end_of_file) << id;
    }
  }

 private:
  void kill_and_await_news(pid_t victim) {
    ASSERT_EQ(::kill(victim, SIGKILL), 0);
    pump_until([&] { return server_->keeper_pid() != victim && server_->forker_pid() != victim; });
  }

  std::mt19937 random_{20'231'123};
};

TEST_F(ForkServerFailover, AWorkerOutlivesItsForker) {
  const auto id = forked_one();
  kill_forker();
  expect_lives(id);
  expect_exits(id, 17);
  const auto next = forked_one();
  expect_exits(next, 18);
}

TEST_F(ForkServerFailover, AWorkerOutlivesTheKeeper) {
  const auto id = forked_one();
  const pid_t forker = server_->forker_pid();
  kill_keeper();
  EXPECT_EQ(server_->keeper_pid(), forker);
  expect_lives(id);
  expect_exits(id, 17);
  const auto next = forked_one();
  expect_exits(next, 18);
}

TEST_F(ForkServerFailover, AWorkerOutlivesForkerAndKeeper) {
  const auto id = forked_one();
  kill_forker();
  kill_keeper();
  expect_lives(id);
  expect_exits(id, 17);
}

TEST_F(ForkServerFailover, AWorkerOutlivesManyOfThem) {
  const auto id = forked_one();
  for (int i = 0; i != 5; ++i) {
    kill_keeper();
    kill_forker();
    kill_keeper();
    expect_lives(id);
    expect_lives(forked_one());
  }
  expect_exits(id, 17);
}

TEST_F(ForkServerFailover, RequestsToTheDyingAreNotLost) {
  for (int i = 0; i != 10; ++i) {
    const pid_t victim = i % 2 == 0 ? server_->keeper_pid() : server_->forker_pid();
    ::kill(victim, SIGKILL);
    const auto id = forked_one();
    expect_exits(id, i);
    pump_until([&] { return server_->keeper_pid() != victim && server_->forker_pid() != victim; });
  }
}

TEST_F(ForkServerFailover, SignalsToTheDyingAreNotLost) {
  for (int i = 0; i != 10; ++i) {
    const auto id = forked_one();
    const pid_t victim = i % 2 == 0 ? server_->keeper_pid() : server_->forker_pid();
    ::kill(victim, SIGKILL);
    server_->signal_group(id, SIGTERM);
    await_exit(id);
    EXPECT_EQ(WTERMSIG(seen_.workers[id].exit.status), SIGTERM);
    pump_until([&] { return server_->keeper_pid() != victim && server_->forker_pid() != victim; });
  }
}

TEST_F(ForkServerFailover, ExitsInTheGapAreReported) {
  for (int i = 0; i != 10; ++i) {
    const auto first = forked_one();
    const auto second = forked_one();
    const pid_t victim = i % 2 == 0 ? server_->keeper_pid() : server_->forker_pid();
    ::kill(victim, SIGKILL);
    tell(to(first), "exit 9");
    expect_exits(second, 8);
    await_exit(first);
    pump_until([&] { return server_->keeper_pid() != victim && server_->forker_pid() != victim; });
  }
}

TEST_F(ForkServerFailover, AStrangerDiesWithItsTree) {
  const auto id = forked_one();
  tell(to(id), "family");
  const auto descendants = numbers_in(answer_of(to(id)));
  ASSERT_EQ(descendants.size(), 3u);
  kill_forker();
  kill_keeper();
  server_->signal_group(id, SIGKILL);
  await_exit(id);
  for (const pid_t pid : descendants) EXPECT_TRUE(ends(pid));
}

TEST_F(ForkServerFailover, AStrangersGroupDiesWithIt) {
  const auto id = forked_one();
  tell(to(id), "idler");
  const auto descendants = numbers_in(answer_of(to(id)));
  ASSERT_EQ(descendants.size(), 1u);
  kill_forker();
  kill_keeper();
  expect_exits(id, 0);
  EXPECT_TRUE(ends(descendants[0]));
}

TEST_F(ForkServerFailover, KillingTheForkerUnderLoadLosesNothing) {
  run_under_fire([](std::size_t) { return false; });
}

TEST_F(ForkServerFailover, KillingTheKeeperUnderLoadLosesNothing) {
  run_under_fire([](std::size_t) { return true; });
}

TEST_F(ForkServerFailover, KillingBothInTurnUnderLoadLosesNothing) {
  run_under_fire([](std::size_t kill) { return kill % 2 == 0; });
}

TEST_F(ForkServerFailover, TheLossOfBothIsTold) {
  const auto living = forked_one();
  const unique_fd keeper = open_pidfd(server_->keeper_pid());
  // Stopped first, so that neither can replace the other.
  ::kill(server_->keeper_pid(), SIGSTOP);
  ::kill(server_->forker_pid(), SIGKILL);
  signal_process(keeper.get(), SIGKILL);
  const auto waiting = fork_one();
  pump_until([&] { return seen_.lost; });
  EXPECT_TRUE(server_->contact_lost());
  EXPECT_EQ(seen_.workers[waiting].failed, 1);
  EXPECT_EQ(seen_.workers[waiting].error, ESRCH);
  const auto late = fork_one();
  pump_until([&] { return seen_.workers[late].failed == 1; });
  EXPECT_EQ(seen_.workers[late].error, ESRCH);
  EXPECT_EQ(seen_.workers[living].exited, 0);
  EXPECT_EQ(signal_process(seen_.workers[living].pidfd.get(), SIGKILL), 0);
}

}  // namespace
}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "runtime/proc_tree.hpp"
#include "tests/runtime/fork_server_support.hpp"
#include "tests/support/eventually.hpp"

namespace carom::runtime {
namespace {

using namespace testing;

/// A host in a process of its own, made of the fixture's parts.
class ForkServerHost : public ForkServer {
 protected:
  /// Forks a host that starts a fork server, runs `prepare` and then serves on, and waits until it
  /// is that far.
  pid_t start_host(const std::function<void()>& prepare) {
    auto [ours, theirs] = channel::make_pair();
    const pid_t host = ::fork();
    if (host == 0) {
      ours = channel{};
      start();
      prepare();
      tell(theirs, HasFailure() ? "failed" : "ready");
      pump_until([] { return false; }, 60s);
      ::_exit(1);
    }
    theirs = channel{};
    EXPECT_EQ(answer_of(ours, 20s), "ready");
    return host;
  }

  /// The host dies; all that came of it is our child in the end, or was never there.
  void expect_all_gone_within_a_second_of(pid_t host) {
    const auto begin = clock::now();
    ASSERT_EQ(::kill(host, SIGKILL), 0);
    EXPECT_TRUE(wait_until_childless(1s * test::slowness));
    RecordProperty("milliseconds", static_cast<int>((clock::now() - begin) / 1ms));
  }

  std::string ask(std::uint64_t id, std::string_view word) {
    tell(to(id), word);
    return answer_of(to(id));
  }

  void fork_workers_of_all_kinds() {
    forked_one();
    ask(forked_one(), "spin");
    ask(forked_one(), "ignore");
    ask(forked_one(), "family");
    const auto stopped = forked_one();
    ::kill(pid_of(stopped), SIGSTOP);
  }

  void kill_server(pid_t victim) {
    ::kill(victim, SIGKILL);
    pump_until([&] { return server_->keeper_pid() != victim && server_->forker_pid() != victim; });
  }
};

TEST_F(ForkServerHost, NothingOutlivesAKilledHost) {
  expect_all_gone_within_a_second_of(start_host([&] {
    fork_workers_of_all_kinds();
    ask(forked_one(), "descendants");
  }));
}

TEST_F(ForkServerHost, NothingOutlivesAKilledHostWhoseForkerHadDied) {
  expect_all_gone_within_a_second_of(start_host([&] {
    fork_workers_of_all_kinds();
    ask(forked_one(), "descendants");
    kill_server(server_->forker_pid());
    fork_workers_of_all_kinds();
  }));
}

TEST_F(ForkServerHost, NothingOutlivesAKilledHostWhoseKeeperHadDied) {
  expect_all_gone_within_a_second_of(start_host([&] {
    fork_workers_of_all_kinds();
    ask(forked_one(), "descendants");
    kill_server(server_->keeper_pid());
    fork_workers_of_all_kinds();
  }));
}

TEST_F(ForkServerHost, NothingOutlivesAKilledHostWhoseServersHadBothDied) {
  expect_all_gone_within_a_second_of(start_host([&] {
    fork_workers_of_all_kinds();
    kill_server(server_->forker_pid());
    fork_workers_of_all_kinds();
    kill_server(server_->keeper_pid());
    fork_workers_of_all_kinds();
  }));
}

TEST_F(ForkServerHost, NothingOutlivesAHostKilledAmidForks) {
  expect_all_gone_within_a_second_of(start_host([&] {
    for (int i = 0; i != 200; ++i) fork_one();
    pump_until([&] { return seen_.answered >= 20; });
  }));
}

TEST_F(ForkServerHost, NothingOutlivesAHostKilledTogetherWithTheKeeper) {
  auto ends = channel::make_pair();
  const pid_t host = start_host([&] {
    fork_workers_of_all_kinds();
    tell(ends.second, std::to_string(server_->keeper_pid()));
  });
  const pid_t keeper = numbers_in(answer_of(ends.first)).at(0);
  ASSERT_EQ(::kill(keeper, SIGKILL), 0);
  expect_all_gone_within_a_second_of(host);
}

TEST_F(ForkServerHost, ProcessesThatTheHostForkedAreEndedToo) {
  for (const bool keeper_dies : {false, true}) {
    expect_all_gone_within_a_second_of(start_host([&] {
      auto [ours, theirs] = channel::make_pair();
      const pid_t direct = ::fork();
      if (direct == 0) {
        ours = channel{};
        // What detaches from it comes back to it; it sees the host's end before the keeper may, and
        // has to end that itself if it leaves then.
        ::prctl(PR_SET_CHILD_SUBREAPER, 1);
        answer_words(theirs);
        end_children();
        ::_exit(0);
      }
      const unique_fd pidfd = open_pidfd(direct);
      server_->adopt(next_id_++, direct, pidfd.get());
      tell(ours, "descendants");
      EXPECT_EQ(numbers_in(answer_of(ours)).size(), 4u);
      channels_[next_id_++] = std::move(ours);
      if (keeper_dies) kill_server(server_->keeper_pid());
      // Answered after the adoption has been taken up.
      forked_one();
    }));
  }
}

TEST_F(ForkServerHost, AnAdoptedProcessMayEnd) {
  start();
  forked_one();
  const auto fds = [&] {
    return count_fds(server_->keeper_pid()) + count_fds(server_->forker_pid());
  };
  const int before = fds();
  for (int i = 0; i != 20; ++i) {
    const pid_t direct = ::fork();
    if (direct == 0) ::_exit(0);
    const unique_fd pidfd = open_pidfd(direct);
    server_->adopt(next_id_++, direct, pidfd.get());
    EXPECT_EQ(::waitpid(direct, nullptr, 0), direct);
  }
  // Answered after the adoptions.
  tell(to(forked_one()), "exit 0");
  pump_until([&] { return seen_.ended == 1; });
  const auto deadline = clock::now() + 5s;
  while (fds() > before && clock::now() < deadline) std::this_thread::yield();
  EXPECT_LE(fds(), before);
}

TEST_F(ForkServerHost, NothingOutlivesTheHandle) {
  start();
  fork_workers_of_all_kinds();
  ask(forked_one(), "descendants");
  const auto begin = clock::now();
  server_.reset();
  EXPECT_TRUE(wait_until_childless(1s * test::slowness));
  RecordProperty("milliseconds", static_cast<int>((clock::now() - begin) / 1ms));
}

TEST_F(ForkServerHost, AForkedCopyOfTheHostDoesNotKeepAnythingAlive) {
  start();
  fork_workers_of_all_kinds();
  const pid_t copy = ::fork();
  if (copy == 0)
    for (;;) ::pause();
  server_.reset();
  for (const auto& [id, worker] : seen_.workers) EXPECT_TRUE(ends(worker.pid, 1s));
  EXPECT_TRUE(is_alive(copy));
  EXPECT_EQ(::kill(copy, SIGKILL), 0);
}

}  // namespace
}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "runtime/pidfd.hpp"
#include "runtime/proc_tree.hpp"
#include "tests/runtime/fork_server_support.hpp"

namespace carom::runtime {
namespace {

using namespace testing;

/// Subreaper fixture; starts no server.
class ProcTree : public ForkServer {
 protected:
  /// A child of this process that answers words.
  pid_t fork_child(channel& to) {
    auto [ours, theirs] = channel::make_pair();
    const pid_t pid = ::fork();
    if (pid == 0) {
      ours = channel{};
      obey(std::move(theirs));
      ::_exit(0);
    }
    to = std::move(ours);
    return pid;
  }
};

TEST_F(ProcTree, KillsATreeThroughGroupsAndSessions) {
  channel worker;
  const pid_t root = fork_child(worker);
  const unique_fd pidfd = open_pidfd(root);
  tell(worker, "family");
  const auto family = numbers_in(answer_of(worker));
  ASSERT_EQ(family.size(), 3u);
  kill_tree(root, pidfd.get());
  EXPECT_TRUE(ends(root));
  for (const pid_t pid : family) EXPECT_TRUE(ends(pid));
}

TEST_F(ProcTree, KillsATreeThatKeepsGrowing) {
  const pid_t root = ::fork();
  if (root == 0) {
    // Each generation starts the next and lives on, up to what a test machine can bear.
    for (int generation = 0; generation != 400; ++generation)
      if (::fork() != 0)
        for (;;) ::pause();
    for (;;) ::pause();
  }
  const unique_fd pidfd = open_pidfd(root);
  while (children_of(root).empty()) std::this_thread::yield();
  kill_tree(root, pidfd.get());
  EXPECT_TRUE(wait_until_childless(10s));
}

TEST_F(ProcTree, KillsATreeOfWhichOthersKillThePartsAtTheSameTime) {
  for (int trial = 0; trial != 400; ++trial) {
    int report[2];
    ASSERT_EQ(::pipe(report), 0);
    const pid_t root = ::fork();
    if (root == 0) {
      ::prctl(PR_SET_CHILD_SUBREAPER, 1);
      const pid_t between = ::fork();
      if (between == 0) {
        const pid_t leaf = ::fork();
        if (leaf == 0) {
          ::setsid();
          for (;;) ::pause();
        }
        const pid_t told[] = {::getpid(), leaf};
        if (::write(report[1], told, sizeof told) != sizeof told) ::_exit(1);
      }
      for (;;) ::pause();
    }
    const unique_fd pidfd = open_pidfd(root);
    pid_t told[2] = {};
    ASSERT_EQ(::read(report[0], told, sizeof told), static_cast<ssize_t>(sizeof told));
    ::close(report[0]);
    ::close(report[1]);
    const unique_fd leaf = open_pidfd(told[1]);
    // Like keeper, guardian and worker that see the end of a host at the same moment.
    std::thread other{[between = told[0], trial] {
      for (volatile int spins = trial * 50; spins > 0;) spins = spins - 1;
      ::kill(between, SIGKILL);
    }};
    kill_tree(root, pidfd.get());
    other.join();
    EXPECT_TRUE(ends(told[1])) << trial;
    if (HasFailure()) signal_process(leaf.get(), SIGKILL);
    EXPECT_TRUE(wait_until_childless(10s));
    if (HasFailure()) return;
  }
}

TEST_F(ProcTree, ADeadRootIsNoLicenceToKill) {
  const pid_t root = ::fork();
  if (root == 0) ::_exit(0);
  const unique_fd pidfd = open_pidfd(root);
  ASSERT_EQ(::waitpid(root, nullptr, 0), root);
  kill_tree(root, pidfd.get());
  EXPECT_EQ(signal_group(root, pidfd.get(), SIGKILL, false), ESRCH);
}

TEST_F(ProcTree, SeesChildrenOfAllThreads) {
  pid_t child = 0;
  std::thread{[&] {
    child = ::fork();
    if (child == 0)
      for (;;) ::pause();
  }}.join();
  const auto children = children_of(::getpid());
  EXPECT_EQ(std::ranges::count(children, child), 1);
  end_children();
  EXPECT_TRUE(children_of(::getpid()).empty());
}

TEST_F(ProcTree, TellsTheExitOfAStranger) {
  const pid_t zombie = ::fork();
  if (zombie == 0) ::_exit(6);
  const unique_fd pidfd = open_pidfd(zombie);
  while (!has_ended(pidfd.get())) std::this_thread::yield();
  // Not reaped: from /proc, on every kernel.
  const exit_info exit = exit_of_stranger(zombie, pidfd.get());
  EXPECT_TRUE(exit.known);
  EXPECT_EQ(WEXITSTATUS(exit.status), 6);
  ASSERT_TRUE(reap_child(zombie));
  const exit_info late = exit_of_stranger(zombie, pidfd.get());
  EXPECT_TRUE(!late.known || WEXITSTATUS(late.status) == 6);
}

TEST_F(ProcTree, APeekLeavesTheZombie) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(5);
  while (!peek_child(child)) std::this_thread::yield();
  EXPECT_EQ(WEXITSTATUS(peek_child(child)->status), 5);
  EXPECT_TRUE(reap_child(child));
  EXPECT_FALSE(reap_child(child));
  EXPECT_FALSE(peek_child(child));
}

}  // namespace
}  // namespace carom::runtime

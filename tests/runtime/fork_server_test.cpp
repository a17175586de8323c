// SPDX-License-Identifier: BSL-1.0
#include "runtime/fork_server.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <carom/errors.hpp>

#include <condition_variable>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>

#include "tests/runtime/fork_server_support.hpp"

namespace carom::runtime {
namespace {

using namespace testing;

TEST_F(ForkServer, ReportsExitCodes) {
  start();
  for (const int code : {0, 3, 255}) {
    const auto id = forked_one();
    tell(to(id), "exit " + std::to_string(code));
    await_exit(id);
    const exit_info& exit = seen_.workers[id].exit;
    EXPECT_TRUE(exit.known);
    EXPECT_EQ(exit.pid, pid_of(id));
    EXPECT_TRUE(WIFEXITED(exit.status));
    EXPECT_EQ(WEXITSTATUS(exit.status), code);
  }
}

TEST_F(ForkServer, ReturningFromTheHookIsExitZero) {
  start();
  const auto id = forked_one();
  tell(to(id), "return");
  await_exit(id);
  EXPECT_EQ(seen_.workers[id].exit.status, 0);
}

TEST_F(ForkServer, ReportsSignals) {
  start();
  for (const int signal : {SIGTERM, SIGKILL, SIGUSR1}) {
    const auto id = forked_one();
    tell(to(id), "raise " + std::to_string(signal));
    await_exit(id);
    const int status = seen_.workers[id].exit.status;
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), signal);
  }
}

TEST_F(ForkServer, ReportsACrash) {
  start();
  const auto id = forked_one();
  tell(to(id), "raise 11");
  await_exit(id);
  const int status = seen_.workers[id].exit.status;
  // Sanitizers turn the signal into an exit of their own.
  if (WIFSIGNALED(status))
    EXPECT_EQ(WTERMSIG(status), SIGSEGV);
  else
    EXPECT_NE(WEXITSTATUS(status), 0);
}

TEST_F(ForkServer, ReportsResourceUse) {
  start();
  const auto id = forked_one();
  tell(to(id), "use 64");
  EXPECT_EQ(answer_of(to(id)), "used");
  tell(to(id), "exit 0");
  await_exit(id);
  const exit_info& exit = seen_.workers[id].exit;
  EXPECT_GE(exit.max_rss_bytes, 64u << 20);
  EXPECT_GT((exit.user_time + exit.system_time).count(), 0);
}

TEST_F(ForkServer, GivesAPidfdOfTheWorker) {
  start();
  const auto id = forked_one();
  const int pidfd = seen_.workers[id].pidfd.get();
  EXPECT_FALSE(has_ended(pidfd));
  tell(to(id), "pid");
  EXPECT_EQ(answer_of(to(id)), std::to_string(pid_of(id)));
  tell(to(id), "exit 0");
  pollfd entry{pidfd, POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 10'000), 1);
  await_exit(id);
}

TEST_F(ForkServer, WorkersStartClean) {
  ::signal(SIGUSR2, SIG_IGN);
  start();
  ::signal(SIGUSR2, SIG_DFL);
  const auto first = forked_one();
  const auto second = forked_one();
  for (const auto id : {first, second}) {
    tell(to(id), "describe");
    // Standard descriptors, the channel, the host's pidfd and its own.
    EXPECT_EQ(answer_of(to(id)),
              "stdin=/dev/null name=carom-worker leader=1 fds=6 special_signals=0");
  }
}

TEST_F(ForkServer, ASiblingDoesNotHideTheEndOfAChannel) {
  start();
  const auto first = forked_one();
  forked_one();
  tell(to(first), "exit 0");
  message received;
  pollfd entry{to(first).fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 10'000), 1);
  EXPECT_EQ(to(first).receive(received), channel_errc::end_of_file);
}

TEST_F(ForkServer, ForksSixtyFourAtOnce) {
  start();
  const auto begin = clock::now();
  for (int i = 0; i != 64; ++i) fork_one();
  pump_until([&] { return seen_.answered == 64; });
  const auto taken = clock::now() - begin;
  RecordProperty(
      "microseconds",
      static_cast<int>(std::chrono::duration_cast<std::chrono::microseconds>(taken).count()));
  for (auto& [id, worker] : channels_) tell(worker, "exit 7");
  pump_until([&] { return seen_.ended == 64; });
  for (const auto& [id, worker] : seen_.workers) {
    EXPECT_EQ(worker.forked, 1);
    EXPECT_EQ(worker.exited, 1);
    EXPECT_EQ(WEXITSTATUS(worker.exit.status), 7);
  }
}

TEST_F(ForkServer, HandlesMoreRequestsThanAreUnderWay) {
  start();
  for (int i = 0; i != 300; ++i) tell(to(fork_one()), "exit 1");
  pump_until([&] { return seen_.ended == 300; }, 60s);
  EXPECT_EQ(seen_.answered, 300u);
}

TEST_F(ForkServer, AThousandCyclesLeakNothing) {
  start();
  const auto cycle = [&] {
    const auto id = fork_one();
    tell(to(id), "exit 0");
    await_exit(id);
    channels_.erase(id);
    seen_.workers.erase(id);
  };
  cycle();
  const auto fds_of_all = [&] {
    return std::vector{count_fds(::getpid()), count_fds(server_->keeper_pid()),
                       count_fds(server_->forker_pid())};
  };
  const auto before = fds_of_all();
  for (int i = 0; i != 1000; ++i) cycle();
  // The last notices may still be on their way from keeper to forker, now as at the first look.
  const auto settled = [&] {
    const auto now = fds_of_all();
    return now[0] <= before[0] && now[1] <= before[1] && now[2] <= before[2];
  };
  const auto deadline = clock::now() + 10s;
  while (!settled() && clock::now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(settled());
}

TEST_F(ForkServer, SignalsTheWholeGroup) {
  start();
  const auto id = forked_one();
  tell(to(id), "descendants");
  const auto descendants = numbers_in(answer_of(to(id)));
  ASSERT_EQ(descendants.size(), 4u);
  server_->signal_group(id, SIGTERM);
  await_exit(id);
  EXPECT_EQ(WTERMSIG(seen_.workers[id].exit.status), SIGTERM);
  EXPECT_TRUE(ends(descendants[0]));
}

TEST_F(ForkServer, SignalsAWorkerThatIsNotForkedYet) {
  start();
  const auto id = fork_one();
  server_->signal_group(id, SIGKILL);
  await_exit(id);
  EXPECT_EQ(WTERMSIG(seen_.workers[id].exit.status), SIGKILL);
}

TEST_F(ForkServer, SignallingTheEndedOrUnknownDoesNothing) {
  start();
  const auto id = forked_one();
  tell(to(id), "exit 4");
  await_exit(id);
  server_->signal_group(id, SIGKILL);
  server_->signal_group(12345, SIGKILL);
  const auto next = forked_one();
  tell(to(next), "exit 5");
  await_exit(next);
  EXPECT_EQ(WEXITSTATUS(seen_.workers[next].exit.status), 5);
}

TEST_F(ForkServer, NoDescendantSurvivesAWorker) {
  start();
  for (const char* end : {"exit 0", "raise 9"}) {
    const auto id = forked_one();
    tell(to(id), "descendants");
    const auto descendants = numbers_in(answer_of(to(id)));
    ASSERT_EQ(descendants.size(), 4u);
    tell(to(id), end);
    await_exit(id);
    for (const pid_t pid : descendants) EXPECT_TRUE(ends(pid));
  }
}

TEST_F(ForkServer, TheGroupOfALivingWorkerIsSpared) {
  start();
  const auto parent = forked_one();
  tell(to(parent), "descendants");
  const auto descendants = numbers_in(answer_of(to(parent)));
  ASSERT_EQ(descendants.size(), 4u);
  const auto other = forked_one();
  tell(to(other), "exit 0");
  await_exit(other);
  // Its child in a session of its own is still a child of its own.
  for (int i = 0; i != 3; ++i) EXPECT_TRUE(is_alive(descendants[static_cast<std::size_t>(i)]));
}

TEST_F(ForkServer, IsSilentAndAsleepWhenIdle) {
  start();
  forked_one();
  const auto switches = [](pid_t pid) {
    std::ifstream status{"/proc/" + std::to_string(pid) + "/status"};
    std::string line;
    while (std::getline(status, line) && !line.starts_with("voluntary_ctxt_switches")) continue;
    return line;
  };
  const auto all = [&] {
    return switches(server_->keeper_pid()) + switches(server_->forker_pid());
  };
  // Until the last notices are through.
  std::string before = all();
  pollfd entry{server_->fd(), POLLIN, 0};
  const auto deadline = clock::now() + 10s;
  bool idle = false;
  while (!idle && clock::now() < deadline) {
    EXPECT_EQ(::poll(&entry, 1, 300), 0);
    idle = all() == before;
    before = all();
  }
  EXPECT_TRUE(idle);
  EXPECT_FALSE(server_->wants_write());
}

TEST_F(ForkServer, WaitOfTheHostSeesNoneOfOurs) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  start();
  forked_one();
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  const unique_fd keeper = open_pidfd(server_->keeper_pid());
  server_.reset();
  pollfd entry{keeper.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 10'000), 1);
}

TEST_F(ForkServer, RefusesAThreadedProcess) {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::thread thread{[&] {
    std::unique_lock lock{mutex};
    changed.wait(lock, [&] { return done; });
  }};
  try {
    start();
    ADD_FAILURE() << "started with two threads";
  } catch (const start_method_error& error) {
    EXPECT_NE(std::string{error.what()}.find("carom::init(argc, argv)"), std::string::npos)
        << error.what();
  }
  {
    const std::lock_guard lock{mutex};
    done = true;
  }
  changed.notify_all();
  thread.join();
}

TEST_F(ForkServer, RefusesAnIdInUse) {
  start();
  const auto id = forked_one();
  EXPECT_THROW(server_->fork(id, {}), std::invalid_argument);
  EXPECT_THROW(server_->fork(fork_server::max_id, {}), std::invalid_argument);
}

TEST_F(ForkServer, ADestroyedForkedCopyEndsNothing) {
  start();
  const auto id = forked_one();
  const pid_t copy = ::fork();
  if (copy == 0) {
    server_.reset();
    ::_exit(0);
  }
  ASSERT_EQ(::waitpid(copy, nullptr, 0), copy);
  tell(to(id), "pid");
  EXPECT_EQ(answer_of(to(id)), std::to_string(pid_of(id)));
}

TEST_F(ForkServer, BootRunsInTheForkerBeforeTheWorkers) {
  static int booted = 0;
  start({[] { ++booted; }, [](channel) { ::_exit(booted); }});
  const auto id = forked_one();
  await_exit(id);
  EXPECT_EQ(WEXITSTATUS(seen_.workers[id].exit.status), 1);
  EXPECT_EQ(booted, 0);
}

TEST_F(ForkServer, ABootThatFailsForEverIsALostContact) {
  start({[] { ::_exit(1); }, &obey});
  const auto id = fork_one();
  pump_until([&] { return seen_.lost; });
  EXPECT_EQ(seen_.workers[id].failed, 1);
  EXPECT_EQ(seen_.workers[id].error, ESRCH);
}

}  // namespace
}  // namespace carom::runtime

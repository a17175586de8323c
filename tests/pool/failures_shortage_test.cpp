// SPDX-License-Identifier: BSL-1.0
// The row of failures.md on starts that fail, where the host is short of descriptors or processes.
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using carom::test::helper_program;
using carom::test::running_helper;
using carom::test::worker_roster;
using namespace std::chrono_literals;

void silence() { carom::set_log(std::make_shared<spdlog::logger>("silent")); }

carom::start_method method(const helper_program::arguments& arguments) {
  return arguments.at(0) == "fork" ? carom::start_method::fork : carom::start_method::forkserver;
}

/// While it lives this process gets at most so much more of something.
class shortage {
 public:
  shortage(__rlimit_resource what, rlim_t most) : what_(what) {
    ::getrlimit(what_, &before_);
    rlimit less = before_;
    less.rlim_cur = most;
    ::setrlimit(what_, &less);
  }
  ~shortage() { ::setrlimit(what_, &before_); }

 private:
  __rlimit_resource what_;
  rlimit before_{};
};

/// The number that the next descriptor gets.
rlim_t next_descriptor() {
  const int fd = ::dup(2);
  ::close(fd);
  return static_cast<rlim_t>(fd);
}

int complain(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  return 1;
}

/// Recycles its workers while there is no descriptor for new ones.
const helper_program short_of_descriptors(
    "short_of_descriptors", [](const helper_program::arguments& arguments) {
      silence();
      worker_roster roster;
      carom::pool pool(roster.watch(
          {.processes = 4, .start_method = method(arguments), .max_tasks_per_child = 3}));
      if (!roster.wait_for_alive(4)) return complain("no workers");
      auto held = pool.apply_async(tasks::hold, begun, release);
      if (!board::wait(begun)) return complain("no task began");
      std::vector<carom::async_result<int>> results;
      {
        const shortage none(RLIMIT_NOFILE, 3);
        for (int i = 0; i < 40; ++i) results.push_back(pool.apply_async(tasks::square, i));
        // All but the one that is held have had their last task. That one may be robbed of one that
        // it had not begun, and so be good for another.
        if (!eventually([&] { return pool.metrics().recycled_workers == 3; }))
          return complain("nobody was recycled");
        carom::test::let_pass(20ms);
      }
      for (int i = 0; i < 40; ++i)
        if (results[static_cast<std::size_t>(i)].get(60s) != i * i) return complain("wrong");
      board::set(release, 1);
      held.get();
      const auto seen = pool.metrics();
      if (seen.lost != 0 || seen.died_workers != 0) return complain("a worker died");
      return pool.apply(tasks::square, 3) == 9 && pool.did_start_ok() ? 0 : 1;
    });

/// Loses a worker while there are too few descriptors for all that a new one takes.
const helper_program short_of_some_descriptors(
    "short_of_some_descriptors", [](const helper_program::arguments& arguments) {
      silence();
      worker_roster roster;
      carom::pool pool(roster.watch({.processes = 1, .start_method = method(arguments)}));
      for (rlim_t free = 0; free < 12; ++free) {
        const pid_t worker = pool.apply(tasks::worker);
        {
          const shortage few(RLIMIT_NOFILE, next_descriptor() + free);
          ::kill(worker, SIGKILL);
          if (!roster.wait_for_downs(static_cast<std::size_t>(free) + 1)) return complain("no end");
          carom::test::let_pass(20ms);
        }
        if (pool.apply(tasks::worker) == worker) return complain("the same worker");
      }
      return 0;
    });

const helper_program short_of_processes("short_of_processes", [](const helper_program::arguments&) {
  silence();
  // Root may have any number; nobody may not.
  constexpr uid_t nobody = 65534;
  if (::geteuid() == 0 && ::setuid(nobody) != 0) return complain("setuid");
  ::prctl(PR_SET_DUMPABLE, 1);
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 2, .start_method = carom::start_method::fork}));
  if (!roster.wait_for_alive(2)) return complain("no workers");
  auto held = pool.apply_async(tasks::hold, begun, release);
  if (!board::wait(begun)) return complain("no task began");
  {
    const shortage none(RLIMIT_NPROC, 1);
    for (const pid_t pid : roster.alive())
      if (pid != held.worker_pid()) ::kill(pid, SIGKILL);
    if (!roster.wait_for_downs(1)) return complain("no end");
    carom::test::let_pass(20ms);
    if (roster.alive().empty()) return complain("the pool has ended");
    if (roster.alive().size() == 2) return complain("there was no shortage");
  }
  if (!roster.wait_for_alive(2)) return complain("it is not replaced");
  board::set(release, 1);
  held.get();
  return pool.apply(tasks::square, 3) == 9 ? 0 : 1;
});

/// Has no worker and never gets a descriptor for one.
const helper_program short_of_descriptors_for_good(
    "short_of_descriptors_for_good", [](const helper_program::arguments& arguments) {
      silence();
      carom::pool pool{{.processes = 1, .start_method = method(arguments), .start_timeout = 2s}};
      const pid_t worker = pool.apply(tasks::worker);
      const shortage none(RLIMIT_NOFILE, 3);
      ::kill(worker, SIGKILL);
      try {
        const auto never = pool.apply_async(tasks::hold, begun, release);
        never.get(60s);
        return complain("the task has run");
      } catch (const carom::restart_freq_exceeded& e) {
        const std::string what = e.what();
        if (e.cause().find("Too many open files") == std::string::npos ||
            what.find("no worker can be started") == std::string::npos)
          return complain(e.what());
      }
      pool.close();
      pool.join(60s);
      return 0;
    });

/// Takes all descriptors and gives some back for a moment, again and again, so that they are gone
/// at any step of a start.
void come_and_go(const std::stop_token& stop) {
  std::vector<int> held;
  std::size_t given = 0;
  while (!stop.stop_requested()) {
    for (int fd = 0; (fd = ::dup(2)) >= 0;) held.push_back(fd);
    carom::test::let_pass(50us);
    for (std::size_t i = ++given % 40; i != 0 && !held.empty(); --i) {
      ::close(held.back());
      held.pop_back();
    }
    carom::test::let_pass(std::chrono::microseconds(given * 370 % 4000));
  }
  for (const int fd : held) ::close(fd);
}

/// Recycles its workers while descriptors come and go.
const helper_program short_of_descriptors_now_and_then(
    "short_of_descriptors_now_and_then", [](const helper_program::arguments& arguments) {
      silence();
      carom::pool pool{
          {.processes = 2, .start_method = method(arguments), .max_tasks_per_child = 1}};
      pool.apply(tasks::nothing);
      {
        const shortage few(RLIMIT_NOFILE, next_descriptor() + 20);
        const std::jthread other(come_and_go);
        for (int i = 0; i < 200; ++i)
          if (pool.apply(tasks::square, i) != i * i) return complain("wrong");
      }
      const auto seen = pool.metrics();
      if (seen.lost != 0) return complain("a task was lost");
      pool.close();
      pool.join(60s);
      return 0;
    });

void expect_success(const helper_program& program, const char* start_method) {
  SCOPED_TRACE(start_method);
  board::reset();
  running_helper host(program, {start_method});
  EXPECT_EQ(host.wait(), 0);
  EXPECT_TRUE(eventually([&] { return carom::test::family_of(host.pid()).empty(); }));
}

}  // namespace

TEST_F(Failures, 19_a_moment_without_descriptors_is_waited_for) {
  for (const char* start_method : {"forkserver", "fork"})
    expect_success(short_of_descriptors, start_method);
}

TEST_F(Failures, 19_a_moment_with_too_few_descriptors_is_waited_for) {
  for (const char* start_method : {"forkserver", "fork"})
    expect_success(short_of_some_descriptors, start_method);
}

TEST_F(Failures, 19_descriptors_that_come_and_go) {
  for (const char* start_method : {"forkserver", "fork"})
    expect_success(short_of_descriptors_now_and_then, start_method);
}

TEST_F(Failures, 19_a_moment_without_processes_is_waited_for) {
  expect_success(short_of_processes, "fork");
}

TEST_F(Failures, 19_without_descriptors_for_good_nobody_waits_for_ever) {
  for (const char* start_method : {"forkserver", "fork"})
    expect_success(short_of_descriptors_for_good, start_method);
}

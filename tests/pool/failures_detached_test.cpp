// SPDX-License-Identifier: BSL-1.0
// What tasks have detached: it lives as long as its worker, and no longer than the host.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <carom/carom.hpp>
#include <csignal>
#include <string>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using carom::test::family_of;
using carom::test::fork_servers_of;
using carom::test::helper_program;
using carom::test::running_helper;
using carom::test::server_pids;
using namespace std::chrono_literals;

constexpr unsigned helper = 10, other_helper = 11, ready = 1;

/// A process in a session that is not its own, and nobody's child. The board has its pid.
pid_t detach(unsigned slot) {
  const pid_t middle = ::fork();
  if (middle == 0) {
    ::setsid();
    if (::fork() != 0) ::_exit(0);
    board::set(slot, static_cast<std::uint32_t>(::getpid()));
    for (;;) ::pause();
  }
  ::waitpid(middle, nullptr, 0);
  board::wait(slot);
  return ::getpid();
}

bool lives(unsigned slot) {
  return carom::test::is_of_family(::getpid(), static_cast<pid_t>(board::get(slot)));
}

/// Whoever was killed has been replaced.
bool replaced(const server_pids& before) {
  const server_pids now = fork_servers_of(::getpid());
  return now.keeper != 0 && now.forker != 0 &&
         (now.keeper != before.keeper || now.forker != before.forker);
}

const helper_program host_of_a_detached(
    "host_of_a_detached", [](const helper_program::arguments& arguments) {
      carom::set_log(std::make_shared<spdlog::logger>("silent"));
      carom::pool pool({.processes = 1});
      pool.apply(detach, helper);
      for (const std::string& victim : arguments) {
        const server_pids servers = fork_servers_of(::getpid());
        const pid_t killed = victim == "keeper" ? servers.keeper : servers.forker;
        if (killed == 0) return 1;
        ::kill(killed, SIGKILL);
        if (!eventually([&] { return replaced(servers); })) return 2;
      }
      board::set(ready, 1);
      for (;;) ::pause();
      return 0;
    });

const helper_program host_of_many("host_of_many", [](const helper_program::arguments&) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  carom::pool pool({.processes = 2});
  carom::pool direct({.processes = 2, .start_method = carom::start_method::fork});
  for (int i = 0; i != 2; ++i) {
    pool.apply(detach, helper);
    direct.apply(detach, other_helper);
  }
  board::set(ready, 1);
  for (;;) ::pause();
  return 0;
});

bool is_childless(pid_t host) {
  return eventually([&] { return family_of(host).empty(); }, 5s * carom::test::slowness);
}

}  // namespace

TEST_F(Failures, 14_what_a_task_has_detached_outlives_other_workers) {
  carom::pool pool({.processes = 1});
  carom::pool other({.processes = 1});
  pool.apply(detach, helper);
  const pid_t worker = other.apply(detach, other_helper);
  ::kill(worker, SIGKILL);
  EXPECT_TRUE(eventually([] { return !lives(other_helper); }));
  EXPECT_TRUE(lives(helper)) << "killed with a worker that is not its own";
  pool.close();
  pool.join();
  EXPECT_TRUE(eventually([] { return !lives(helper); }));
}

TEST_F(Failures, 15_what_a_task_has_detached_ends_with_the_host_though_servers_had_died) {
  for (const std::vector<std::string>& killed :
       {std::vector<std::string>{}, {"forker", "keeper"}, {"keeper", "keeper"}}) {
    board::reset();
    running_helper host(host_of_a_detached, killed);
    ASSERT_TRUE(board::wait(ready));
    host.signal(SIGKILL);
    host.wait();
    EXPECT_TRUE(is_childless(host.pid())) << killed.size();
  }
}

TEST_F(Failures, 15_nothing_outlives_a_host_and_a_keeper_killed_with_it) {
  const auto pauses = {0, 50, 200, 500, 1000, 2000, 4000, 8000};
  for (const int pause : pauses) {
    SCOPED_TRACE(pause);
    board::reset();
    running_helper host(host_of_many);
    ASSERT_TRUE(board::wait(ready));
    const server_pids servers = fork_servers_of(host.pid());
    ASSERT_NE(servers.keeper, 0);
    host.signal(SIGKILL);
    carom::test::let_pass(std::chrono::microseconds(pause));
    carom::test::signal_family(host.pid(), servers.keeper, SIGKILL);
    host.wait();
    EXPECT_TRUE(is_childless(host.pid()));
  }
}

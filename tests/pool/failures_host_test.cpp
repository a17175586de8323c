// SPDX-License-Identifier: BSL-1.0
// Rows of failures.md about who else dies: descendants with their worker, workers with their host.
#include <gtest/gtest.h>

#include <sys/wait.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
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
using carom::test::signal_family;
using namespace std::chrono_literals;

constexpr unsigned interrupted = 2;
constexpr auto soon = 1s * carom::test::slowness;

enum class detachment { no, own_session, twice };

/// Leaves a process behind that would live for ever. The board has its pid at `slot`.
void leave_grandchild(detachment how, unsigned slot) {
  if (::fork() != 0) return;
  if (how != detachment::no) ::setsid();
  if (how == detachment::twice && ::fork() != 0) ::_exit(0);
  for (int signal = 1; signal < 32; ++signal) std::signal(signal, SIG_IGN);
  board::set(slot, static_cast<std::uint32_t>(::getpid()));
  for (;;) ::pause();
}

void leave_grandchildren() {
  leave_grandchild(detachment::no, 10);
  leave_grandchild(detachment::own_session, 11);
  leave_grandchild(detachment::twice, 12);
  for (const unsigned slot : {10U, 11U, 12U}) board::wait(slot);
}

pid_t hold_with_grandchildren() {
  leave_grandchildren();
  return tasks::hold(begun, release);
}

void leave_grandchildren_when_told() {
  board::add(begun);
  board::wait(release);
  leave_grandchildren();
  board::add(begun);
  for (;;) ::pause();
}

void spin() {
  board::add(begun);
  for (;;) board::get(begun);
}

bool grandchildren_are_gone() {
  for (const unsigned slot : {10U, 11U, 12U})
    if (carom::test::is_of_family(::getpid(), static_cast<pid_t>(board::get(slot)))) return false;
  return true;
}

carom::pool_options options_of(const helper_program::arguments& arguments) {
  return {.processes = 2,
          .start_method = arguments.at(0) == "fork" ? carom::start_method::fork
                                                    : carom::start_method::forkserver};
}

const helper_program idle_host("idle_host", [](const helper_program::arguments& arguments) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  carom::pool pool(options_of(arguments));
  pool.apply(tasks::nothing);
  tasks::hold(begun, release);
  return 0;
});

const helper_program busy_host("busy_host", [](const helper_program::arguments& arguments) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  carom::pool pool(options_of(arguments));
  for (int i = 0; i < 100; ++i) pool.apply_async(spin);
  board::wait(release);
  return 0;
});

const helper_program host_of_grandchildren("host_of_grandchildren",
                                           [](const helper_program::arguments& arguments) {
                                             carom::set_log(
                                                 std::make_shared<spdlog::logger>("silent"));
                                             carom::pool pool(options_of(arguments));
                                             pool.apply(leave_grandchildren);
                                             tasks::hold(begun, release);
                                             return 0;
                                           });

/// Is interrupted from the terminal and then takes its results all the same.
const helper_program interrupted_host("interrupted_host",
                                      [](const helper_program::arguments& arguments) {
                                        ::setpgid(0, 0);
                                        std::signal(SIGINT, [](int) { board::add(interrupted); });
                                        carom::set_log(std::make_shared<spdlog::logger>("silent"));
                                        carom::pool pool(options_of(arguments));
                                        const auto held =
                                            pool.apply_async(tasks::hold, begun, release);
                                        board::wait(interrupted);
                                        board::set(release, 1);
                                        const bool delivered = held.get() == held.worker_pid() &&
                                                               pool.apply(tasks::square, 3) == 9;
                                        pool.close();
                                        pool.join();
                                        return delivered ? 0 : 1;
                                      });

/// Kills the host once so many things have begun on the board; all of its family goes with it.
void expect_gone_with_host(const helper_program& program, const char* start_method,
                           std::uint32_t when) {
  SCOPED_TRACE(program.name() + ' ' + start_method);
  board::reset();
  running_helper host(program, {start_method});
  ASSERT_TRUE(board::wait(begun, when));
  EXPECT_FALSE(family_of(host.pid()).empty());
  host.signal(SIGKILL);
  ASSERT_TRUE(host.wait());
  EXPECT_TRUE(eventually([&] { return family_of(host.pid()).empty(); }, soon))
      << family_of(host.pid()).size() << " processes left";
}

}  // namespace

TEST_F(Failures, 14_grandchildren_die_with_their_worker) {
  carom::pool pool{{.processes = 1}};
  const auto lost = pool.apply_async(hold_with_grandchildren);
  ASSERT_TRUE(board::wait(begun));
  EXPECT_FALSE(grandchildren_are_gone());
  ::kill(lost.worker_pid(), SIGKILL);
  EXPECT_THROW(lost.get(), carom::worker_lost);
  EXPECT_TRUE(eventually(grandchildren_are_gone, soon));
}

TEST_F(Failures, 14_grandchildren_die_with_a_terminated_pool) {
  carom::pool pool{{.processes = 1}};
  const auto held = pool.apply_async(hold_with_grandchildren);
  ASSERT_TRUE(board::wait(begun));
  pool.terminate();
  pool.join();
  EXPECT_TRUE(eventually(grandchildren_are_gone, soon));
}

TEST_F(Failures, 14_grandchildren_die_with_a_closed_pool) {
  carom::pool pool{{.processes = 1}};
  pool.apply(leave_grandchildren);
  EXPECT_FALSE(grandchildren_are_gone()) << "while its worker lives";
  pool.close();
  pool.join();
  EXPECT_TRUE(eventually(grandchildren_are_gone, soon));
}

TEST_F(Failures, 14_grandchildren_die_with_a_worker_that_was_forked_by_the_host) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  {
    carom::pool pool{{.processes = 1, .start_method = carom::start_method::fork}};
    const auto lost = pool.apply_async(hold_with_grandchildren);
    ASSERT_TRUE(board::wait(begun));
    ::kill(lost.worker_pid(), SIGKILL);
    EXPECT_THROW(lost.get(), carom::worker_lost);
    EXPECT_TRUE(eventually(grandchildren_are_gone, soon));
  }
  carom::set_log(nullptr);
}

TEST_F(Failures, 14_grandchildren_die_with_a_worker_that_has_lost_its_servers) {
  carom::pool pool{{.processes = 1}};
  const auto lost = pool.apply_async(leave_grandchildren_when_told);
  ASSERT_TRUE(board::wait(begun));
  // The forker's children go to the keeper, and the keeper's to nobody of ours.
  for (const auto which : {&server_pids::forker, &server_pids::keeper}) {
    const auto before = fork_servers_of(::getpid());
    ASSERT_TRUE(signal_family(::getpid(), before.*which, SIGKILL));
    ASSERT_TRUE(eventually([&] {
      const auto now = fork_servers_of(::getpid());
      return now.keeper && now.forker && now.*which != before.*which;
    }));
  }
  board::set(release, 1);
  ASSERT_TRUE(board::wait(begun, 2));
  EXPECT_FALSE(grandchildren_are_gone());
  ::kill(lost.worker_pid(), SIGKILL);
  EXPECT_THROW(lost.get(), carom::worker_lost);
  EXPECT_TRUE(eventually(grandchildren_are_gone, soon));
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Failures, 15_workers_of_a_killed_host_are_gone_in_a_second) {
  for (const char* start_method : {"forkserver", "fork"}) {
    expect_gone_with_host(idle_host, start_method, 1);
    expect_gone_with_host(busy_host, start_method, 2);
    expect_gone_with_host(host_of_grandchildren, start_method, 1);
  }
}

TEST_F(Failures, 15_nothing_is_left_of_a_host_that_just_exits) {
  for (const char* start_method : {"forkserver", "fork"}) {
    board::reset();
    board::set(release, 1);
    running_helper host(idle_host, {start_method});
    EXPECT_EQ(host.wait(), 0);
    EXPECT_TRUE(eventually([&] { return family_of(host.pid()).empty(); }, soon));
  }
}

TEST_F(Failures, 36_interrupt_from_the_terminal_reaches_the_host_only) {
  for (const char* start_method : {"forkserver", "fork"}) {
    SCOPED_TRACE(start_method);
    board::reset();
    running_helper host(interrupted_host, {start_method});
    ASSERT_TRUE(board::wait(begun));
    ASSERT_EQ(::kill(-host.pid(), SIGINT), 0);
    EXPECT_EQ(host.wait(), 0) << "its workers have lived on";
    EXPECT_TRUE(eventually([&] { return family_of(host.pid()).empty(); }, soon));
  }
}

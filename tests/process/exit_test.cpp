// SPDX-License-Identifier: BSL-1.0
// How a process ends, and what its exit code says.
#include <pthread.h>
#include <sys/wait.h>
#include <unwind.h>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <thread>

#include "tests/process/support.hpp"

namespace {

using namespace carom::test;
using carom::file_descriptor;
using carom::process;
using carom::process_error;
using carom::start_method;

struct on_destruction {
  ~on_destruction() { board::add(40); }
} global_object;

void throw_something(int what) {
  if (what == 0) throw std::out_of_range("out of everything");
  throw 7;
}
int return_an_int() { return 3; }

struct unserializable {
  void* pointer = nullptr;
};
unserializable return_what_cannot_travel() { return {}; }

void print_and_leave(file_descriptor to, int way) {
  ::dup2(to.get(), STDOUT_FILENO);
  to.reset();
  std::printf("printed ");
  std::ios::sync_with_stdio(false);
  std::cout << "streamed";
  if (way == 1) std::exit(0);
  if (way == 2) throw std::runtime_error("after it has printed");
}

void fork_a_copy(unsigned slot) {
  // A plain fork of a process: leaves by exit, and takes nothing of its parent's end along.
  const pid_t copy = ::fork();
  if (copy == 0) std::exit(5);
  int status = 0;
  ::waitpid(copy, &status, 0);
  board::set(slot, static_cast<std::uint32_t>(WEXITSTATUS(status)) + 1);
}

/// Registers something for its exit, and starts a process as a copy of itself that calls exit.
void start_a_copy_that_exits() {
  std::atexit([] { board::add(42); });
  process copied(
      {.start_method = start_method::fork}, +[] { std::exit(6); });
  copied.start();
  copied.join();
  board::set(43, static_cast<std::uint32_t>(copied.exitcode().value_or(0)));
  // A worker that is a copy leaves as little of its parent's undone.
  carom::pool copies({.processes = 1, .start_method = start_method::fork});
  EXPECT_THROW(copies.apply(+[] { std::exit(7); }), carom::worker_lost);
  copies.terminate();
  copies.join();
  board::set(44, board::get(42) + 1);
}

/// Joins the process group of a child, as job control does.
void leave_group_and_stay() {
  const pid_t other = ::fork();
  if (other == 0) {
    ::setpgid(0, 0);
    for (;;) ::pause();
  }
  ::setpgid(other, other);
  if (::setpgid(0, other) == 0) stay(1);
}

}  // namespace

TEST_F(Parity, Process_function_that_calls_pthread_exit_has_returned) {
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(carom::to_string(method));
    process one = started(
        carom::process_options{.start_method = method}, +[] {
          const on_destruction left_behind;
          ::pthread_exit(nullptr);
        });
    one.join();
    EXPECT_EQ(one.exitcode(), 0);
  }
}

TEST_F(Parity, Process_function_that_throws_what_is_not_of_cxx_has_failed) {
  process one = started(+[] {
    static _Unwind_Exception thrown;
    std::memcpy(&thrown.exception_class, "OTHRLANG", sizeof thrown.exception_class);
    _Unwind_RaiseException(&thrown);
  });
  one.join();
  EXPECT_EQ(one.exitcode(), 1);
}

TEST_F(Parity, Process_that_left_its_group_is_killed) {
  for (const auto method : {start_method::forkserver, start_method::fork, start_method::spawn}) {
    SCOPED_TRACE(carom::to_string(method));
    for (const bool politely : {true, false}) {
      board::reset();
      process one = started(carom::process_options{.start_method = method}, leave_group_and_stay);
      ASSERT_TRUE(board::wait(1));
      politely ? one.terminate() : one.kill();
      one.join();
      EXPECT_EQ(one.exitcode(), politely ? -SIGTERM : -SIGKILL);
    }
  }
}

TEST_F(Parity, Process_terminate_and_kill) {
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(carom::to_string(method));
    process one = started(carom::process_options{.start_method = method}, stay, 1);
    ASSERT_TRUE(pid_on_board(1));
    EXPECT_TRUE(one.is_alive());
    one.terminate();
    one.join();
    EXPECT_EQ(one.exitcode(), -SIGTERM);
    EXPECT_FALSE(one.controlled_termination());
    board::set(1, 0);

    process two = started(carom::process_options{.start_method = method}, ignore_and_stay, 1);
    ASSERT_TRUE(pid_on_board(1));
    two.terminate();
    EXPECT_FALSE(two.join(std::chrono::milliseconds(50)));
    EXPECT_TRUE(two.is_alive());
    two.kill();
    EXPECT_TRUE(two.join(std::chrono::hours::max()));
    EXPECT_EQ(two.exitcode(), -SIGKILL);
    board::set(1, 0);
  }
}

TEST_F(Parity, Process_terminate_controlled) {
  process one = started(stay, 1);
  one.terminate_controlled();
  one.join();
  EXPECT_EQ(one.exitcode(), -SIGTERM);
  EXPECT_TRUE(one.controlled_termination());
}

TEST_F(Parity, Process_terminate_reaches_its_group) {
  process one = started(+[] {
    const pid_t below = ::fork();
    if (below == 0) stay(2);
    stay(1);
  });
  const pid_t below = pid_on_board(2);
  ASSERT_TRUE(pid_on_board(1));
  ASSERT_TRUE(is_running(below));
  one.terminate();
  one.join();
  EXPECT_TRUE(gone_within_a_second({below}));
}

TEST_F(Parity, Process_exitcode) {
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(carom::to_string(method));
    const auto code_of = [&](auto f, auto... args) {
      process one({.start_method = method}, f, args...);
      one.start();
      one.join();
      return one.exitcode();
    };
    EXPECT_EQ(code_of(nothing), 0);
    EXPECT_EQ(code_of(return_an_int), 0) << "what the function returns does not count";
    EXPECT_EQ(code_of(return_what_cannot_travel), 0);
    EXPECT_EQ(code_of(leave_with, 0), 0);
    EXPECT_EQ(code_of(leave_with, 7), 7);
    EXPECT_EQ(code_of(leave_with, 255), 255);
    EXPECT_EQ(code_of(throw_something, 0), 1);
    EXPECT_EQ(code_of(throw_something, 1), 1);
    EXPECT_EQ(code_of(die_of, SIGKILL), -SIGKILL);
    EXPECT_EQ(code_of(die_of, SIGSEGV), -SIGSEGV);
    EXPECT_EQ(code_of(die_of, SIGUSR1), -SIGUSR1) << "only to workers does it mean something else";
    EXPECT_EQ(code_of(+[] { std::abort(); }), -SIGABRT);
  }
}

TEST_F(Parity, Process_exception_is_told_on_standard_error) {
  pipe_ends ends;
  process one(
      +[](file_descriptor to) {
        ::dup2(to.get(), STDERR_FILENO);
        to.reset();
        throw_something(0);
      },
      std::move(ends.write));
  one.set_name("thrower");
  one.start();
  const std::string told = read_all(ends.read.get());
  one.join();
  EXPECT_NE(told.find("thrower"), std::string::npos) << told;
  EXPECT_NE(told.find("std::out_of_range"), std::string::npos) << told;
  EXPECT_NE(told.find("out of everything"), std::string::npos) << told;
}

TEST_F(Parity, Process_output_is_flushed_however_it_ends) {
  for (const auto method : carom::get_all_start_methods()) {
    for (const int way : {0, 1, 2}) {
      pipe_ends ends;
      process one = started(carom::process_options{.start_method = method}, print_and_leave,
                            std::move(ends.write), way);
      const std::string told = read_all(ends.read.get());
      EXPECT_NE(told.find("printed "), std::string::npos) << way;
      EXPECT_NE(told.find("streamed"), std::string::npos) << way;
      one.join();
      EXPECT_EQ(one.exitcode(), way == 2 ? 1 : 0);
    }
  }
}

TEST_F(Parity, Process_exit_destroys_nothing_of_the_copied_host) {
  for (const auto method : {start_method::forkserver, start_method::fork}) {
    process one = started(carom::process_options{.start_method = method}, leave_with, 0);
    one.join();
    process two = started(carom::process_options{.start_method = method}, nothing);
    two.join();
    process copied = started(carom::process_options{.start_method = method}, fork_a_copy, 41);
    copied.join();
    EXPECT_EQ(board::get(41), 6U);
  }
  EXPECT_EQ(board::get(40), 0U);
}

TEST_F(Parity, Process_copies_do_not_run_what_their_parent_has_registered_for_its_exit) {
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(carom::to_string(method));
    board::reset();
    process one = started(carom::process_options{.start_method = method}, start_a_copy_that_exits);
    one.join();
    EXPECT_EQ(one.exitcode(), 0);
    EXPECT_EQ(board::get(43), 6U);
    EXPECT_EQ(board::get(44), 1U);
    EXPECT_EQ(board::get(42), 1U);  // its own exit, and no other
  }
}

TEST_F(Parity, Process_human_status) {
  EXPECT_EQ(carom::human_status(-9), "signal 9 (SIGKILL)");
  EXPECT_EQ(carom::human_status(-15), "signal 15 (SIGTERM)");
  EXPECT_EQ(carom::human_status(-1000), "signal 1000");
  EXPECT_EQ(carom::human_status(0), "exitcode 0");
  EXPECT_EQ(carom::human_status(3), "exitcode 3");
}

TEST_F(Parity, Process_pdeathsig) {
  EXPECT_EQ(carom::get_pdeathsig(), 0);
  EXPECT_THROW(carom::set_pdeathsig(-1), std::invalid_argument);
  EXPECT_THROW(carom::set_pdeathsig(1000), std::invalid_argument);
  std::jthread([] { EXPECT_THROW(carom::set_pdeathsig(SIGTERM), process_error); }).join();
  const pid_t parent = ::fork();
  if (parent == 0) {
    const pid_t child = ::fork();
    if (child == 0) {
      carom::set_pdeathsig(SIGKILL);
      board::set(2, static_cast<std::uint32_t>(carom::get_pdeathsig()));
      stay(1);
    }
    board::wait(1);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(parent, &status, 0), parent);
  EXPECT_EQ(board::get(2), static_cast<unsigned>(SIGKILL));
  EXPECT_TRUE(gone_within_a_second({pid_on_board(1)}));
}

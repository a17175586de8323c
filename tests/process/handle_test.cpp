// SPDX-License-Identifier: BSL-1.0
// What may be asked of a handle, when, and by whom.
#include <sys/wait.h>
#include <algorithm>
#include <atomic>
#include <climits>
#include <functional>
#include <thread>

#include "runtime/own_process.hpp"
#include "tests/process/support.hpp"
#include "tests/support/forked.hpp"

namespace {

using namespace carom::test;
using carom::file_descriptor;
using carom::process;
using carom::process_error;
using carom::start_method;

template <class F>
std::string error_of(F f) {
  try {
    f();
    return "";
  } catch (const process_error& e) {
    return e.what();
  }
}

/// A worker's soft limit passes while it waits for a process.
std::string join_until_soft_limit() {
  process one(stay, 0);
  one.start();
  std::string what = "not interrupted";
  try {
    one.join();
  } catch (const carom::soft_time_limit_exceeded&) {
    what = "interrupted";
  }
  one.kill();
  one.join();
  return what;
}

}  // namespace

TEST_F(Parity, Process_active_children) {
  process one(stay, 1);
  EXPECT_FALSE(is_among(one, carom::active_children()));
  one.start();
  process two = started(stay, 2);
  EXPECT_TRUE(is_among(one, carom::active_children()));
  ASSERT_EQ(carom::active_children().size(), 2U);
  EXPECT_EQ(carom::active_children().front(), one) << "the oldest first";
  one.kill();
  one.join();
  EXPECT_FALSE(is_among(one, carom::active_children()));
  EXPECT_TRUE(is_among(two, carom::active_children()));
  two.kill();
  two.join();
  EXPECT_TRUE(carom::active_children().empty());
}

TEST_F(Parity, Process_sentinel) {
  process one(stay, 1);
  EXPECT_THROW(one.sentinel(), process_error);
  one.start();
  pollfd waited{one.sentinel(), POLLIN, 0};
  EXPECT_EQ(::poll(&waited, 1, 0), 0);
  one.kill();
  EXPECT_EQ(::poll(&waited, 1, 30'000), 1);
  EXPECT_FALSE(one.is_alive());
  EXPECT_EQ(one.exitcode(), -SIGKILL) << "known as soon as the end is seen";
  one.join();
  EXPECT_EQ(::poll(&waited, 1, 0), 1) << "valid until close";
  one.close();
  EXPECT_THROW(one.sentinel(), process_error);
}

TEST_F(Parity, Process_sentinel_of_a_direct_fork_is_its_own) {
  process one = started(carom::process_options{.start_method = start_method::fork}, stay, 1);
  ASSERT_EQ(pid_on_board(1), one.pid());
  pollfd waited{one.sentinel(), POLLIN, 0};
  EXPECT_EQ(::poll(&waited, 1, 0), 0);
  one.terminate();
  EXPECT_EQ(::poll(&waited, 1, 30'000), 1);
  one.join();
  EXPECT_EQ(one.exitcode(), -SIGTERM);
}

TEST_F(Parity, Process_misuse) {
  process one(stay, 1);
  EXPECT_NE(error_of([&] { one.join(); }).find("start()"), std::string::npos);
  EXPECT_NE(error_of([&] { one.terminate(); }).find("not been started"), std::string::npos);
  EXPECT_THROW(one.kill(), process_error);
  EXPECT_THROW(one.terminate_controlled(), process_error);
  EXPECT_FALSE(one.controlled_termination());
  one.start();
  EXPECT_NE(error_of([&] { one.start(); }).find("make a new one"), std::string::npos);
  EXPECT_NE(error_of([&] { one.close(); }).find("still runs"), std::string::npos);
  EXPECT_THROW(one.set_daemon(true), process_error);
  EXPECT_THROW(one.set_name("x"), process_error);
  EXPECT_NE(error_of([] { carom::current_process().join(); }).find("itself"), std::string::npos);
  EXPECT_THROW(carom::current_process().start(), process_error);
  EXPECT_THROW(carom::current_process().kill(), process_error);
  EXPECT_THROW(carom::current_process().sentinel(), process_error);
  EXPECT_THROW(carom::current_process().close(), process_error);
  one.kill();
  one.join();
  EXPECT_THROW(one.start(), process_error);
  one.close();
  EXPECT_THROW(one.join(), process_error);
  EXPECT_EQ(one.exitcode(), -SIGKILL) << "what is known stays known";

  process moved = std::move(one);
  EXPECT_THROW((void)one.name(), process_error);
  EXPECT_FALSE(one);
  EXPECT_THROW(carom::process_handle().start(), process_error);
  EXPECT_THROW(process({.start_timeout = std::chrono::seconds(0)}, nothing), std::invalid_argument);
  EXPECT_THROW(process({.kill_grace = std::chrono::seconds(-1)}, nothing), std::invalid_argument);

  process closed(nothing);
  closed.close();
  EXPECT_THROW(closed.start(), process_error);
}

TEST_F(Parity, Process_in_a_forked_copy) {
  process unstarted(nothing);
  process running = started(stay, 1);
  ASSERT_TRUE(pid_on_board(1));
  const pid_t copy = ::fork();
  if (copy == 0) {
    int refused = 0;
    for (const auto& f : std::vector<std::function<void()>>{
             [&] { unstarted.start(); }, [&] { running.join(); }, [&] { running.kill(); },
             [&] { (void)running.is_alive(); }, [&] { (void)running.sentinel(); }})
      try {
        f();
      } catch (const process_error&) {
        ++refused;
      }
    if (!carom::active_children().empty()) refused = -1;
    { process gone = std::move(running); }  // neither kills nor waits
    ::_exit(refused);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(copy, &status, 0), copy);
  EXPECT_EQ(WEXITSTATUS(status), 5);
  EXPECT_TRUE(running.is_alive());
  running.kill();
}

TEST_F(Parity, Process_join_with_time_out) {
  process one = started(stay, 1);
  EXPECT_FALSE(one.join(std::chrono::milliseconds(1)));
  EXPECT_FALSE(one.join(std::chrono::seconds(-1)));
  one.kill();
  EXPECT_TRUE(one.join(std::chrono::seconds(30)));
}

TEST_F(Parity, Process_join_from_many_threads) {
  process one = started(stay, 1);
  std::atomic<int> joined{0};
  {
    std::vector<std::jthread> all;
    for (int i = 0; i < 8; ++i)
      all.emplace_back([&] {
        one.join();
        if (one.exitcode() == -SIGTERM) ++joined;
      });
    one.terminate();
  }
  EXPECT_EQ(joined, 8);
}

TEST_F(Parity, Process_join_on_the_loop_thread_is_an_error) {
  process one = started(stay, 1);
  carom::pool pool{{.processes = 1}};
  std::string join_error, start_error;
  auto done = pool.apply_async(nothing);
  std::atomic<bool> ran{false};
  done.then([&](auto&&...) {
    join_error = error_of([&] { one.join(); });
    process two(nothing);
    start_error = error_of([&] { two.start(); });
    ran = true;
  });
  EXPECT_TRUE(eventually([&] { return ran.load(); }));
  EXPECT_NE(join_error.find("loop thread"), std::string::npos);
  EXPECT_NE(start_error.find("loop thread"), std::string::npos);
  one.kill();
}

TEST_F(Parity, Process_join_ends_by_a_soft_time_limit) {
  carom::pool pool{{.processes = 1}};
  EXPECT_EQ(pool.apply({.soft_time_limit = std::chrono::milliseconds(50)}, join_until_soft_limit),
            "interrupted");
}

TEST_F(Parity, Process_destructor_joins) {
  {
    process one(+[] {
      board::wait(1);
      board::add(2);
    });
    one.start();
    board::set(1, 1);
  }
  EXPECT_EQ(board::get(2), 1U);
}

TEST_F(Parity, Process_destructor_terminates_a_daemon) {
  pid_t first = 0, second = 0;
  {
    process one = started(carom::process_options{.daemon = true}, stay, 1);
    process stubborn = started(carom::process_options{.daemon = true}, ignore_and_stay, 2);
    first = pid_on_board(1);
    second = pid_on_board(2);
    ASSERT_TRUE(is_running(first) && is_running(second));
    one = std::move(stubborn);
    EXPECT_FALSE(is_running(first)) << "replaced: ended";
  }
  EXPECT_FALSE(is_running(second)) << "deaf to SIGTERM: killed";
}

TEST_F(Parity, Process_parent_as_its_child_sees_it) {
  process one = started(+[] {
    const auto parent = carom::parent_process();
    int wrong = parent->join(std::chrono::milliseconds(1)) ? 1 : 0;
    pollfd waited{parent->sentinel(), POLLIN, 0};
    if (::poll(&waited, 1, 0) != 0) wrong |= 2;
    for (const auto& f : std::vector<std::function<void()>>{
             [&] { parent->kill(); }, [&] { (void)parent->authkey(); },
             [&] { (void)parent->daemon(); }, [&] { carom::process_handle(*parent).start(); }})
      try {
        f();
        wrong |= 4;
      } catch (const process_error&) {
      }
    std::exit(wrong);
  });
  one.join();
  EXPECT_EQ(one.exitcode(), 0);
}

TEST_F(Parity, Process_human_status_of_any_number) {
  EXPECT_EQ(carom::human_status(INT_MIN), "signal 2147483648");
  EXPECT_EQ(carom::human_status(INT_MAX), "exitcode 2147483647");
}

/// Whose end nobody could tell any more when this process began.
TEST_F(Parity, Process_parent_that_ended_before_can_be_joined) {
  forked gone([] { return true; });
  const pid_t pid = gone.pid();
  ASSERT_TRUE(gone.succeeded());
  forked orphan([pid] {
    carom::serialization::origin_record told;
    told.name = "orphan";
    told.parent = pid;
    told.parent_name = "gone";
    carom::runtime::own_process::become(told);
    auto parent = carom::parent_process();
    if (!parent) return false;
    parent->join();
    return parent->join(std::chrono::seconds(0)) && !parent->is_alive();
  });
  EXPECT_TRUE(orphan.succeeded());
}

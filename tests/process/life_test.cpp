// SPDX-License-Identifier: BSL-1.0
// What a process is and does, from `process(f)` to its exit code.
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <thread>

#include "tests/process/support.hpp"

namespace {

using namespace carom::test;
using carom::file_descriptor;
using carom::process;
using carom::process_error;
using carom::start_method;

void describe_self(file_descriptor to, int number, std::string text) {
  const auto self = carom::current_process();
  const auto parent = carom::parent_process();
  write_line(to.get(), std::to_string(number) + " " + text);
  write_line(to.get(), self.name());
  write_line(to.get(), "key " + std::to_string(self.authkey().size()));
  write_line(to.get(), std::to_string(self.pid()));
  write_line(to.get(), std::to_string(parent->pid()) + " " + parent->name());
  write_line(to.get(), std::string(self.daemon() ? "daemon" : "no daemon") + " " +
                           (parent->is_alive() ? "alive" : "dead"));
  write_line(to.get(), std::to_string(::getpgrp() == ::getpid()));
}

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

void read_to_the_end(file_descriptor from, unsigned slot) {
  read_all(from.get());
  board::set(slot, 1);
}

std::size_t bytes_of(const std::vector<char>& v) {
  return static_cast<std::size_t>(std::count(v.begin(), v.end(), 'x'));
}
void count_bytes(const std::vector<char>& v, file_descriptor to) {
  write_line(to.get(), std::to_string(bytes_of(v)));
}

void write_to_all(std::vector<file_descriptor> to) {
  for (const auto& each : to) write_line(each.get(), "here");
}

struct adder {
  int base = 0;
  void operator()(int x, file_descriptor to) const {
    write_line(to.get(), std::to_string(base + x));
  }
  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& base;
  }
};

bool is_among(const process& one, const std::vector<carom::process_handle>& all) {
  return std::ranges::find(all, static_cast<const carom::process_handle&>(one)) != all.end();
}

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

void fork_a_copy(unsigned slot) {
  // A plain fork of a process: leaves by exit, and takes nothing of its parent's end along.
  const pid_t copy = ::fork();
  if (copy == 0) std::exit(5);
  int status = 0;
  ::waitpid(copy, &status, 0);
  board::set(slot, static_cast<std::uint32_t>(WEXITSTATUS(status)) + 1);
}

}  // namespace

TEST_F(Parity, Process_current) {
  const auto self = carom::current_process();
  EXPECT_TRUE(self.is_alive());
  EXPECT_FALSE(self.daemon());
  EXPECT_EQ(self.pid(), ::getpid());
  EXPECT_EQ(self.ident(), ::getpid());
  EXPECT_EQ(self.exitcode(), std::nullopt);
  EXPECT_EQ(self.name(), "MainProcess");
  EXPECT_EQ(self.authkey().size(), 32U);
  EXPECT_EQ(self, carom::current_process());
  EXPECT_FALSE(carom::parent_process());
}

TEST_F(Parity, Process_from_start_to_join) {
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(carom::to_string(method));
    pipe_ends ends;
    process one({.name = "SomeProcess", .daemon = true, .start_method = method}, describe_self,
                std::move(ends.write), 7, "words");
    EXPECT_EQ(one.authkey(), carom::current_process().authkey());
    EXPECT_FALSE(one.is_alive());
    EXPECT_TRUE(one.daemon());
    EXPECT_EQ(one.pid(), 0);
    EXPECT_EQ(one.exitcode(), std::nullopt);
    EXPECT_FALSE(is_among(one, carom::active_children()));

    one.start();
    EXPECT_NE(one.pid(), 0);
    EXPECT_NE(one.pid(), ::getpid());

    EXPECT_EQ(read_line(ends.read.get()), "7 words");
    EXPECT_EQ(read_line(ends.read.get()), "SomeProcess");
    EXPECT_EQ(read_line(ends.read.get()), "key 32");
    EXPECT_EQ(read_line(ends.read.get()), std::to_string(one.pid()));
    EXPECT_EQ(read_line(ends.read.get()), std::to_string(::getpid()) + " MainProcess")
        << "the logical parent, not the fork server";
    EXPECT_EQ(read_line(ends.read.get()), "daemon alive");
    EXPECT_EQ(read_line(ends.read.get()), "1") << "leads its group";

    one.join();
    EXPECT_EQ(one.exitcode(), 0);
    EXPECT_FALSE(one.is_alive());
    EXPECT_FALSE(is_among(one, carom::active_children()));
    one.join();
    one.terminate();
    EXPECT_EQ(one.exitcode(), 0);
  }
}

TEST_F(Parity, Process_authkey_is_inherited_and_can_be_set) {
  for (const auto method : carom::get_all_start_methods()) {
    pipe_ends ends;
    process one({.start_method = method},
                +[](file_descriptor to) {
                  write_line(to.get(), carom::current_process().authkey());
                },
                std::move(ends.write));
    one.set_authkey("of its own");
    one.start();
    EXPECT_EQ(read_line(ends.read.get()), "of its own");
    one.join();
    EXPECT_THROW(one.set_authkey("late"), process_error);
  }
  EXPECT_EQ(carom::current_process().authkey().size(), 32U);
}

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

TEST_F(Parity, Process_terminate_and_kill) {
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(carom::to_string(method));
    if (method == start_method::spawn) continue;  // no board there: see Context_spawn_…
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

TEST_F(Parity, Process_descriptors_of_arguments_are_its_own_alone) {
  pipe_ends ends;
  process one = started(read_to_the_end, std::move(ends.read), 1);
  EXPECT_FALSE(one.join(std::chrono::milliseconds(20)));
  ends.write.reset();
  one.join();
  EXPECT_EQ(board::get(1), 1U) << "its end of file came";
}

TEST_F(Parity, Process_large_arguments_and_many_descriptors) {
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(carom::to_string(method));
    pipe_ends ends;
    process one({.start_method = method}, count_bytes, std::vector<char>(8 << 20, 'x'),
                std::move(ends.write));
    one.start();
    EXPECT_EQ(read_line(ends.read.get()), std::to_string(8 << 20));
    one.join();

    pipe_ends many;
    std::vector<file_descriptor> copies;
    for (int i = 0; i < 1000; ++i)
      copies.push_back(file_descriptor::duplicate(many.write.get()));
    many.write.reset();
    process two({.start_method = method}, write_to_all, std::move(copies));
    two.start();
    EXPECT_EQ(read_all(many.read.get()).size(), 1000 * std::strlen("here\n"));
    two.join();
    EXPECT_EQ(two.exitcode(), 0);
  }
}

TEST_F(Parity, Process_function_objects_and_lambdas) {
  for (const auto method : carom::get_all_start_methods()) {
    pipe_ends ends;
    process one = started(carom::process_options{.start_method = method}, adder{40}, 2,
                          file_descriptor::duplicate(ends.write.get()));
    EXPECT_EQ(read_line(ends.read.get()), "42");
    one.join();
    process two = started(
        carom::process_options{.start_method = method},
        [](const auto& text, file_descriptor to) { write_line(to.get(), text); }, "generic",
        std::move(ends.write));
    EXPECT_EQ(read_line(ends.read.get()), "generic");
    two.join();
  }
}

TEST_F(Parity, Process_names) {
  process one(nothing), two(nothing);
  ASSERT_TRUE(one.name().starts_with("Process-"));
  EXPECT_EQ(std::stoi(two.name().substr(8)), std::stoi(one.name().substr(8)) + 1);
  one.set_name("renamed");
  EXPECT_EQ(one.name(), "renamed");
  EXPECT_THROW(one.set_name(""), std::invalid_argument);
  auto self = carom::current_process();
  self.set_name("renamed too");
  EXPECT_EQ(carom::current_process().name(), "renamed too");
  self.set_name("MainProcess");

  pipe_ends ends;
  process outer(
      +[](file_descriptor to) {
        for (int i = 0; i < 2; ++i) {
          process inner(
              +[](file_descriptor out) {
                write_line(out.get(), carom::current_process().name() + " of " +
                                          carom::parent_process()->name());
              },
              file_descriptor::duplicate(to.get()));
          inner.start();
          inner.join();
        }
      },
      std::move(ends.write));
  const std::string name = outer.name();
  outer.start();
  EXPECT_EQ(read_line(ends.read.get()), name + ":1 of " + name);
  EXPECT_EQ(read_line(ends.read.get()), name + ":2 of " + name);
  outer.join();
}

TEST_F(Parity, Process_name_in_a_pools_worker) {
  carom::pool pool{{.processes = 1, .name = "kitchen"}};
  EXPECT_EQ(pool.apply(+[] { return carom::current_process().name(); }), "kitchen-0");
  EXPECT_EQ(pool.apply(+[] { return carom::parent_process()->pid(); }), ::getpid());
  EXPECT_TRUE(pool.apply(+[] { return carom::parent_process()->is_alive(); }));
  EXPECT_EQ(pool.apply(+[] { return process(nothing).name(); }), "Process-kitchen-0:1");
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
  EXPECT_THROW(process({.start_timeout = std::chrono::seconds(0)}, nothing),
               std::invalid_argument);
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
    process one(
        +[] {
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

TEST_F(Parity, Process_daemons_have_children_and_their_flag_is_inherited) {
  pipe_ends ends;
  process one({.daemon = true},
              +[](file_descriptor to) {
                process child(nothing);
                child.start();
                child.join();
                write_line(to.get(), std::to_string(child.daemon()) + " " +
                                         std::to_string(*child.exitcode()));
              },
              std::move(ends.write));
  one.start();
  EXPECT_EQ(read_line(ends.read.get()), "1 0");
  one.join();
  EXPECT_FALSE(process(nothing).daemon());
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

TEST_F(Parity, Process_join_of_pool_tasks_process) {
  carom::pool pool{{.processes = 2}};
  const auto codes = pool.map(
      +[](int code) {
        process one(leave_with, code);
        one.start();
        one.join();
        return *one.exitcode();
      },
      std::vector{1, 2, 3, 4});
  EXPECT_EQ(codes, (std::vector{1, 2, 3, 4}));
}

TEST_F(Parity, Process_many_at_once) {
  std::vector<process> all;
  for (int i = 0; i < 64; ++i) all.push_back(started(leave_with, i));
  for (int i = 0; i < 64; ++i) {
    all[static_cast<std::size_t>(i)].join();
    EXPECT_EQ(all[static_cast<std::size_t>(i)].exitcode(), i);
  }
}

TEST_F(Parity, Process_started_by_many_threads) {
  std::atomic<int> right{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        process one = started(leave_with, t);
        one.join();
        if (one.exitcode() == t) ++right;
      }
    });
  threads.clear();
  EXPECT_EQ(right, 40);
}

TEST_F(Parity, Process_a_thousand_leave_nothing_behind) {
  const int count = std::getenv("CAROM_FULL") ? 10'000 : 1'000;
  for (int done = 0; done < count;) {
    std::vector<process> some;
    for (int i = 0; i < 20; ++i, ++done) some.push_back(started(nothing));
    for (auto& one : some) {
      one.join();
      ASSERT_EQ(one.exitcode(), 0);
    }
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

TEST_F(Parity, Process_cpu_count) {
  EXPECT_GE(carom::cpu_count(), 1);
  process one = started(+[] {
    cpu_set_t one_cpu;
    CPU_ZERO(&one_cpu);
    CPU_SET(static_cast<unsigned>(::sched_getcpu()), &one_cpu);
    ::sched_setaffinity(0, sizeof one_cpu, &one_cpu);
    std::exit(carom::cpu_count());
  });
  one.join();
  EXPECT_EQ(one.exitcode(), 1);
}

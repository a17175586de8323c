// SPDX-License-Identifier: BSL-1.0
// What a process is: its names, its arguments, how many there may be.
#include <algorithm>
#include <atomic>
#include <cstring>
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
    process one(
        {.start_method = method},
        +[](file_descriptor to) { write_line(to.get(), carom::current_process().authkey()); },
        std::move(ends.write));
    one.set_authkey("of its own");
    one.start();
    EXPECT_EQ(read_line(ends.read.get()), "of its own");
    one.join();
    EXPECT_THROW(one.set_authkey("late"), process_error);
  }
  EXPECT_EQ(carom::current_process().authkey().size(), 32U);
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
    for (int i = 0; i < 1000; ++i) copies.push_back(file_descriptor::duplicate(many.write.get()));
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

TEST_F(Parity, Process_daemons_have_children_and_their_flag_is_inherited) {
  pipe_ends ends;
  process one(
      {.daemon = true},
      +[](file_descriptor to) {
        process child(nothing);
        child.start();
        child.join();
        write_line(to.get(),
                   std::to_string(child.daemon()) + " " + std::to_string(*child.exitcode()));
      },
      std::move(ends.write));
  one.start();
  EXPECT_EQ(read_line(ends.read.get()), "1 0");
  one.join();
  EXPECT_FALSE(process(nothing).daemon());
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

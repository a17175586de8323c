// SPDX-License-Identifier: BSL-1.0
// Processes and pools below processes and workers: each that starts some has a fork server of its
// own, which comes below the outer one. Whoever dies, what stood below is gone and the rest goes
// on.
#include <algorithm>
#include <random>

#include "tests/process/support.hpp"

namespace {

using namespace carom::test;
using carom::file_descriptor;
using carom::process;
using carom::start_method;

// A tree of `depth` levels. Slots of the board: the pid of level n at n; keeper and forker of level
// n at 10 + n and 20 + n; how its child ended, as seen there, at 30 + n.
constexpr unsigned keepers = 10, forkers = 20, codes = 30, go_on = 40, answers = 50;

void publish_own_servers(unsigned level) {
  const auto own = servers_of_host(::getpid());
  board::set(keepers + level, static_cast<std::uint32_t>(own.keeper));
  board::set(forkers + level, static_cast<std::uint32_t>(own.forker));
}

/// A process that holds a child one level below, and a pool when it has none.
void live_at(unsigned level, unsigned depth, bool direct) {
  if (level < depth) {
    process below({.start_method = direct ? start_method::fork : start_method::forkserver}, live_at,
                  level + 1, depth, direct);
    below.start();
    board::wait(level + 1);
    publish_own_servers(level);
    board::set(level, static_cast<std::uint32_t>(::getpid()));
    below.join();
    board::set(codes + level, static_cast<std::uint32_t>(1000 + *below.exitcode()));
    for (;;) ::pause();
  }
  carom::pool pool{{.processes = 1}};
  pool.apply(nothing);
  publish_own_servers(level);
  board::set(level, static_cast<std::uint32_t>(::getpid()));
  // Answers, so that it can be seen to work.
  for (std::uint32_t asked = 1;; ++asked) {
    if (!board::wait(go_on, asked, std::chrono::minutes(5))) ::_exit(1);
    board::set(answers, static_cast<std::uint32_t>(pool.apply(square, static_cast<int>(asked))));
  }
}

bool answers_to(std::uint32_t question) {
  board::set(go_on, question);
  return eventually([&] { return board::get(answers) == question * question; });
}

std::vector<pid_t> whole_family() { return family_of(::getpid()); }

class NestedTree {
 public:
  explicit NestedTree(unsigned depth, bool direct = false)
      : before_(whole_family()),
        root_(carom::process_options{.start_method =
                                         direct ? start_method::fork : start_method::forkserver},
              live_at, 1U, depth, direct),
        depth_(depth) {
    root_.start();
    complete_ = board::wait(1);
  }

  bool complete() const { return complete_; }
  process& root() { return root_; }
  pid_t pid(unsigned level) const { return static_cast<pid_t>(board::get(level)); }
  pid_t keeper(unsigned level) const { return static_cast<pid_t>(board::get(keepers + level)); }
  pid_t forker(unsigned level) const { return static_cast<pid_t>(board::get(forkers + level)); }
  /// What has come since, and lives; a server that took the place of one is none of them.
  std::vector<pid_t> members() const {
    auto all = whole_family();
    const auto outer = servers_of_host(::getpid());
    std::erase_if(all, [&](pid_t pid) { return pid == outer.keeper || pid == outer.forker; });
    std::erase_if(all, [&](pid_t pid) { return std::ranges::count(before_, pid) != 0; });
    return all;
  }
  bool all_gone_within_a_second() const {
    return eventually([&] { return members().empty(); }, std::chrono::seconds(1) * slowness);
  }

 private:
  std::vector<pid_t> before_;
  process root_;
  unsigned depth_;
  bool complete_ = false;
};

/// A host of its own, to be killed: says when its tree stands.
const helper_program host_of_a_tree("host_of_a_tree", [](const helper_program::arguments& given) {
  process root(
      {.start_method = given.at(0) == "fork" ? start_method::fork : start_method::forkserver},
      live_at, 1U, 3U, given.at(0) == "fork");
  root.start();
  board::wait(1);
  publish_own_servers(0);
  board::set(100, 1);
  root.join();
  return 0;
});

void recurse(const file_descriptor& to, const std::string& id) {
  write_line(to.get(), "[" + id + "]");
  if (id.size() == 2) return;
  for (const char* next : {"0", "1"}) {
    process one(recurse, file_descriptor::duplicate(to.get()), id + next);
    one.start();
    one.join();
  }
}

}  // namespace

TEST_F(Parity, Process_recursion) {
  pipe_ends ends;
  recurse(ends.write, "");
  ends.write.reset();
  EXPECT_EQ(read_all(ends.read.get()), "[]\n[0]\n[00]\n[01]\n[1]\n[10]\n[11]\n");
}

TEST_F(Parity, Process_and_pool_below_each_other) {
  for (const auto outer : {start_method::forkserver, start_method::fork})
    for (const auto inner : carom::get_all_start_methods()) {
      SCOPED_TRACE(std::string(carom::to_string(outer)) + " " +
                   std::string(carom::to_string(inner)));
      pipe_ends ends;
      process one(
          {.start_method = outer},
          +[](file_descriptor to, int method) {
            const auto how = static_cast<start_method>(method);
            carom::pool pool{{.processes = 2, .start_method = how}};
            process below({.start_method = how}, leave_with, 9);
            below.start();
            below.join();
            write_line(to.get(), std::to_string(pool.apply(square, 6)) + " " +
                                     std::to_string(*below.exitcode()));
          },
          std::move(ends.write), static_cast<int>(inner));
      one.start();
      EXPECT_EQ(read_line(ends.read.get()), "36 9");
      one.join();
      EXPECT_EQ(one.exitcode(), 0);

      // AddressSanitizer's allocator cannot be forked while another thread is in it, as the threads
      // of a new actor system are.
      if (outer == start_method::fork && carom::test::slowness > 1) continue;
      carom::pool pool{{.processes = 2, .start_method = outer}};
      EXPECT_EQ(pool.apply(
                    +[](int x, int method) {
                      carom::pool below{
                          {.processes = 2, .start_method = static_cast<start_method>(method)}};
                      return below.apply(square, below.apply(square, x));
                    },
                    3, static_cast<int>(inner)),
                81);
    }
}

/// Its process has destructors that workers which are forked from it must not run.
struct left_to_the_process {
  ~left_to_the_process() { board::set(5, static_cast<std::uint32_t>(::getpid())); }
};

TEST_F(Parity, Process_pool_below_tells_that_a_task_has_called_exit) {
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(std::string(carom::to_string(method)));
    pipe_ends ends;
    process one(
        {},
        +[](file_descriptor to, int how) {
          static left_to_the_process guard;
          carom::pool pool{{.processes = 1, .start_method = static_cast<start_method>(how)}};
          std::string said;
          try {
            pool.apply(+[] { std::exit(3); });
          } catch (const carom::worker_lost& e) {
            said = e.info().cause;
          }
          write_line(to.get(), said + (board::get(5) == 0 ? "" : ", after the destructors"));
        },
        std::move(ends.write), static_cast<int>(method));
    one.start();
    EXPECT_EQ(read_line(ends.read.get()), "the task called exit(3)");
    one.join();
    EXPECT_EQ(one.exitcode(), 0);
    board::set(5, 0);
  }
}

TEST_F(Parity, Process_below_a_spawned_one) {
  pipe_ends ends;
  process one(
      {.start_method = start_method::spawn},
      +[](file_descriptor to) {
        std::string said;
        for (const auto method : carom::get_all_start_methods()) {
          process below({.start_method = method}, leave_with, 5);
          below.start();
          below.join();
          carom::pool pool{{.processes = 1, .start_method = method}};
          said += std::to_string(*below.exitcode()) + std::to_string(pool.apply(square, 2));
        }
        write_line(to.get(), said);
      },
      std::move(ends.write));
  one.start();
  EXPECT_EQ(read_line(ends.read.get()), "545454");
  one.join();
}

TEST_F(Parity, Process_nested_fork_server_survives_deaths_beside_its_starter) {
  NestedTree tree(2);
  ASSERT_TRUE(tree.complete());
  const pid_t keeper = tree.keeper(1);
  ASSERT_TRUE(is_running(keeper));
  for (std::uint32_t i = 1; i <= 20; ++i) {
    process beside = started(leave_with, 0);
    beside.join();
    process killed = started(stay, 60);
    killed.kill();
    killed.join();
    ASSERT_TRUE(answers_to(i));
  }
  EXPECT_TRUE(is_running(keeper));
  EXPECT_TRUE(is_running(tree.keeper(2)));
  tree.root().kill();
  EXPECT_TRUE(tree.all_gone_within_a_second());
}

TEST_F(Parity, Process_nested_fork_server_survives_deaths_of_its_own_servers) {
  NestedTree tree(2);
  ASSERT_TRUE(tree.complete());
  // The keeper's death makes the forker keeper; that one's death leaves its workers to the outer
  // fork server, which must know whose they are.
  std::uint32_t question = 0;
  const auto kill_and_ask = [&](pid_t victim) {
    ASSERT_EQ(::kill(victim, SIGKILL), 0);
    ASSERT_TRUE(eventually([&] { return !is_running(victim); }));
    for (int i = 0; i < 3; ++i) {
      process beside = started(leave_with, 0);  // its end makes the outer family look around
      beside.join();
      ASSERT_TRUE(answers_to(++question));
    }
  };
  kill_and_ask(tree.keeper(2));
  kill_and_ask(tree.keeper(1));
  EXPECT_TRUE(is_running(tree.pid(2)));
  tree.root().kill();
  EXPECT_TRUE(tree.all_gone_within_a_second());
}

TEST_F(Parity, Process_nested_fork_server_survives_the_outer_forker) {
  NestedTree tree(2);
  ASSERT_TRUE(tree.complete());
  const auto outer = servers_of_host(::getpid());
  ASSERT_EQ(::kill(outer.forker, SIGKILL), 0);
  for (std::uint32_t i = 1; i <= 5; ++i) {
    process beside = started(leave_with, 0);
    beside.join();
    ASSERT_TRUE(answers_to(i));
  }
  EXPECT_TRUE(tree.root().is_alive());
  tree.root().kill();
  tree.root().join();
  EXPECT_EQ(tree.root().exitcode(), -SIGKILL);
  EXPECT_TRUE(tree.all_gone_within_a_second());
}

TEST_F(Parity, Process_three_levels_killed_at_each) {
  for (const bool direct : {false, true})
    for (unsigned level = 1; level <= 3; ++level) {
      SCOPED_TRACE((direct ? "fork, level " : "forkserver, level ") + std::to_string(level));
      board::reset();
      NestedTree tree(3, direct);
      ASSERT_TRUE(tree.complete());
      ASSERT_TRUE(answers_to(3));
      std::vector<pid_t> below;
      for (unsigned l = level; l <= 3; ++l)
        for (const pid_t pid : {tree.pid(l), tree.keeper(l), tree.forker(l)})
          if (pid) below.push_back(pid);
      ASSERT_EQ(::kill(tree.pid(level), SIGKILL), 0);
      EXPECT_TRUE(gone_within_a_second(below));
      if (level == 1) {
        tree.root().join();
        EXPECT_EQ(tree.root().exitcode(), -SIGKILL);
      } else {
        EXPECT_TRUE(board::wait(codes + level - 1)) << "the level above has seen it";
        EXPECT_EQ(board::get(codes + level - 1), static_cast<unsigned>(1000 - SIGKILL));
        EXPECT_TRUE(is_running(tree.pid(level - 1)));
        tree.root().kill();
      }
      EXPECT_TRUE(tree.all_gone_within_a_second());
    }
}

TEST_F(Parity, Process_three_levels_of_a_killed_host) {
  for (const char* const method : {"forkserver", "fork"}) {
    for (const bool servers_first : {false, true}) {
      board::reset();
      running_helper host(host_of_a_tree, {method});
      ASSERT_TRUE(board::wait(100));
      std::vector<pid_t> all;
      for (unsigned level = 0; level <= 3; ++level)
        for (const unsigned kind : {0U, keepers, forkers})
          if (const auto pid = static_cast<pid_t>(board::get(kind + level)); pid && level + kind)
            all.push_back(pid);
      ASSERT_GE(all.size(), 9U);
      if (servers_first) {
        ::kill(static_cast<pid_t>(board::get(keepers + 1)), SIGKILL);
        ::kill(static_cast<pid_t>(board::get(forkers + 2)), SIGKILL);
      }
      host.signal(SIGKILL);
      host.wait();
      EXPECT_TRUE(gone_within_a_second(all)) << method;
      EXPECT_TRUE(eventually([&] { return family_of(host.pid()).empty(); },
                             std::chrono::seconds(1) * slowness));
    }
  }
}

TEST_F(Parity, Process_three_levels_killed_anywhere) {
  const int rounds = std::getenv("CAROM_FULL") ? 500 : 20;
  const auto seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 dice(seed);
  for (int round = 0; round < rounds; ++round) {
    board::reset();
    NestedTree tree(3);
    if (!tree.complete()) FAIL() << "round " << round;
    // A few at once, anywhere below, servers too; then the root.
    auto victims = tree.members();
    std::ranges::shuffle(victims, dice);
    victims.resize(std::min<std::size_t>(victims.size(), 1 + dice() % 3));
    for (const pid_t victim : victims) signal_family(::getpid(), victim, SIGKILL);
    process beside = started(leave_with, 3);
    beside.join();
    EXPECT_EQ(beside.exitcode(), 3);
    tree.root().kill();
    tree.root().join();
    EXPECT_EQ(tree.root().exitcode(), -SIGKILL);
    ASSERT_TRUE(tree.all_gone_within_a_second()) << "round " << round;
  }
}

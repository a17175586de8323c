// SPDX-License-Identifier: BSL-1.0
// How processes end with what started them, what runs then, and what the deaths of servers change.
#include <sys/wait.h>

#include <memory>
#include <random>
#include <stdexcept>

#include "runtime/child_process.hpp"
#include "tests/process/support.hpp"

namespace {

using namespace carom::test;
using carom::file_descriptor;
using carom::process;
using carom::start_method;

void note(int slot) { board::set(static_cast<unsigned>(slot), 1 + board::add(0)); }

void register_and_end(int way) {
  carom::at_exit([] { note(1); });
  carom::at_exit([] { throw std::runtime_error("is logged"); });
  carom::at_exit([] {
    note(2);
    carom::at_exit([] { note(3); });
  });
  static struct local {
    ~local() { note(4); }
  } ends_with_the_process;
  if (way == 1) std::exit(0);
  if (way == 2) throw std::runtime_error("ends it");
  if (way == 3) ::_exit(0);
  if (way == 4) ::raise(SIGTERM);
}

void note_after_fork() { board::add(10); }
void note_after_fork_too() { board::add(11, board::get(10)); }

/// Host that ends by main's return, with a daemon and another child.
const helper_program host_with_children(
    "host_with_children", [](const helper_program::arguments& given) {
      // Handles that are never destroyed: it is the end of the host that does it.
      static auto& daemon = *new process({.daemon = true}, stay, 1U);
      static auto& stubborn = *new process({.daemon = true}, ignore_and_stay, 2U);
      static auto& other = *new process(+[] {
        board::set(3, static_cast<std::uint32_t>(::getpid()));
        board::wait(4);
        board::set(5, 1);
      });
      daemon.start();
      stubborn.start();
      other.start();
      for (const unsigned slot : {1U, 2U, 3U}) board::wait(slot);
      carom::at_exit([] { board::set(4, 1); });  // runs before anybody is waited for
      if (given.at(0) == "exit") std::exit(6);
      return 6;
    });

/// The same without carom::init.
const helper_program host_without_init(
    "host_without_init",
    [](const helper_program::arguments&) {
      static auto& daemon = *new process({.daemon = true}, stay, 1U);
      daemon.start();
      board::wait(1);
      return 0;
    },
    helper_program::init::missing);

const helper_program host_that_stays("host_that_stays", [](const helper_program::arguments&) {
  std::vector<process> all;
  unsigned slot = 1;
  for (const auto method : {start_method::forkserver, start_method::fork})
    for (const bool daemon : {false, true}) {
      all.emplace_back(carom::process_options{.daemon = daemon, .start_method = method}, stay,
                       slot++);
      all.back().start();
    }
  all.emplace_back(
      carom::process_options{.start_method = start_method::fork}, +[] {
        const pid_t detached = ::fork();
        if (detached == 0) {
          ::setsid();
          stay(6);
        }
        stay(5);
      });
  all.back().start();
  for (unsigned each = 1; each <= 6; ++each) board::wait(each);
  board::set(100, 1);
  for (;;) ::pause();
  return 0;
});

/// Forks directly, from a process that has threads and no fork server at all.
const helper_program host_without_servers(
    "host_without_servers",
    [](const helper_program::arguments&) {
      std::jthread other([](std::stop_token) { board::wait(99); });
      process one({.start_method = start_method::fork}, stay, 1U);
      one.start();
      board::wait(1);
      process two({.start_method = start_method::fork}, leave_with, 4);
      two.start();
      two.join();
      board::set(2, static_cast<std::uint32_t>(*two.exitcode()));
      try {
        process three(nothing);
        three.start();
      } catch (const carom::start_method_error&) {
        board::set(3, 1);
      }
      board::set(100, 1);
      for (;;) ::pause();
      return 0;
    },
    helper_program::init::missing);

/// Both servers die at once; what runs is still known by its pidfd.
const helper_program host_of_the_lost("host_of_the_lost", [](const helper_program::arguments&) {
  process one(stay, 1U), two(+[] {
    board::set(2, 1);
    board::wait(3);
    std::exit(8);
  });
  one.start();
  two.start();
  board::wait(1);
  board::wait(2);
  const auto servers = servers_of_host(::getpid());
  ::kill(servers.keeper, SIGSTOP);
  ::kill(servers.forker, SIGSTOP);
  ::kill(servers.keeper, SIGKILL);
  ::kill(servers.forker, SIGKILL);
  process late(nothing);
  try {
    late.start();
    return 1;
  } catch (const carom::process_error&) {
  } catch (const carom::start_method_error&) {
  }
  board::set(3, 1);
  two.join();
  const int code = *two.exitcode();
  ::kill(one.pid(), SIGKILL);
  one.join();
  return code == 8 && *one.exitcode() == -SIGKILL ? 0 : 2;
});

/// As above, of a child whose pidfd was lost on the way since no descriptor was free.
const helper_program host_without_pidfd("host_without_pidfd", [](const helper_program::arguments&) {
  const auto child =
      std::make_shared<carom::runtime::child_process>(carom::detail::pack_process_call(+[] {
                                                        board::set(2, 1);
                                                        board::wait(3);
                                                        std::exit(8);
                                                      }),
                                                      carom::process_options{});
  child->start();
  board::wait(2);
  carom::runtime::host_runtime::worker_events& told = *child;
  told.forked(0, child->pid(), {});
  const auto servers = servers_of_host(::getpid());
  ::kill(servers.keeper, SIGSTOP);
  ::kill(servers.forker, SIGSTOP);
  ::kill(servers.keeper, SIGKILL);
  ::kill(servers.forker, SIGKILL);
  // Behind what the loop was told of the servers' end.
  try {
    process late(nothing);
    late.start();
    return 1;
  } catch (const carom::process_error&) {
  } catch (const carom::start_method_error&) {
  }
  board::set(3, 1);
  return child->join(std::chrono::seconds(60)) && child->exitcode() == 8 ? 0 : 2;
});

server_pids own_servers() { return servers_of_host(::getpid()); }

}  // namespace

TEST_F(Parity, Process_at_exit) {
  for (const auto method : {start_method::forkserver, start_method::fork, start_method::spawn})
    for (const int way : {0, 1, 2, 3, 4}) {
      SCOPED_TRACE(way);
      board::reset();
      process one = started(carom::process_options{.start_method = method}, register_and_end, way);
      one.join();
      const bool in_order = way < 3;
      EXPECT_EQ(board::get(1) != 0, in_order);
      EXPECT_EQ(board::get(2) != 0, in_order);
      EXPECT_EQ(board::get(3) != 0, in_order) << "registered meanwhile";
      if (!in_order) continue;
      EXPECT_LT(board::get(4), board::get(2)) << "its own static objects: as at any exit";
      EXPECT_LT(board::get(2), board::get(3));
      EXPECT_LT(board::get(3), board::get(1));
    }
  EXPECT_THROW(carom::at_exit(nullptr), std::invalid_argument);
}

TEST_F(Parity, Process_at_exit_in_a_pools_worker_and_not_in_its_children) {
  {
    carom::pool pool{{.processes = 1}};
    pool.apply(+[] {
      carom::at_exit([] { board::add(1); });
      process below(nothing);
      below.start();
      below.join();
      process direct({.start_method = start_method::fork}, nothing);
      direct.start();
      direct.join();
    });
    EXPECT_EQ(board::get(1), 0U);
    pool.close();
    pool.join();
  }
  EXPECT_EQ(board::get(1), 1U) << "once: it left by itself";
}

TEST_F(Parity, Process_after_fork) {
  EXPECT_THROW(carom::after_fork(nullptr), std::invalid_argument);
  process outer = started(+[] {
    carom::after_fork(note_after_fork);
    carom::after_fork(note_after_fork_too);
    carom::after_fork(+[] { throw std::runtime_error("is logged"); });
    for (const auto method : {start_method::forkserver, start_method::fork, start_method::spawn}) {
      process below(
          {.start_method = method}, +[] {
            board::add(12, board::get(10));
            process lowest(nothing);
            lowest.start();
            lowest.join();
          });
      below.start();
      below.join();
      carom::pool pool{{.processes = 1, .start_method = method}};
      pool.apply(nothing);
    }
  });
  outer.join();
  EXPECT_EQ(outer.exitcode(), 0);
  EXPECT_EQ(board::get(10), 9U) << "three processes, three of theirs, three workers";
  EXPECT_EQ(board::get(11), 1U + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9) << "in the order of registration";
  EXPECT_EQ(board::get(12), 1U + 4 + 7) << "before the function";
}

TEST_F(Parity, Process_children_at_the_end_of_the_host) {
  for (const char* const way : {"return", "exit"}) {
    board::reset();
    running_helper host(host_with_children, {way});
    ASSERT_EQ(host.wait().value_or(-1), W_EXITCODE(6, 0)) << way;
    EXPECT_EQ(board::get(5), 1U) << "joined";
    EXPECT_FALSE(is_running(pid_on_board(1))) << "terminated";
    EXPECT_FALSE(is_running(pid_on_board(2))) << "killed";
    EXPECT_FALSE(is_running(pid_on_board(3)));
  }
}

TEST_F(Parity, Process_children_at_the_end_of_a_host_without_init) {
  running_helper host(host_without_init);
  ASSERT_EQ(host.wait(), 0);
  EXPECT_FALSE(is_running(pid_on_board(1)));
}

TEST_F(Parity, Process_children_at_the_end_of_a_process) {
  process outer = started(+[] {
    auto& daemon = *new process({.daemon = true}, stay, 1U);
    auto& other = *new process(+[] {
      board::wait(2);
      board::set(3, 1);
    });
    daemon.start();
    other.start();
    board::wait(1);
    carom::at_exit([] { board::set(2, 1); });
  });
  outer.join();
  EXPECT_EQ(outer.exitcode(), 0);
  EXPECT_EQ(board::get(3), 1U);
  EXPECT_TRUE(gone_within_a_second({pid_on_board(1)}));
}

TEST_F(Parity, Process_nothing_outlives_a_killed_host) {
  running_helper host(host_that_stays);
  ASSERT_TRUE(board::wait(100));
  std::vector<pid_t> all;
  for (unsigned slot = 1; slot <= 6; ++slot) all.push_back(pid_on_board(slot));
  host.signal(SIGKILL);
  host.wait();
  EXPECT_TRUE(gone_within_a_second(all));
  EXPECT_TRUE(eventually([&] { return family_of(host.pid()).empty(); },
                         std::chrono::seconds(1) * slowness));
}

TEST_F(Parity, Process_fork_without_a_fork_server) {
  running_helper host(host_without_servers);
  ASSERT_TRUE(board::wait(100));
  EXPECT_EQ(board::get(2), 4U);
  EXPECT_EQ(board::get(3), 1U) << "forkserver says to call init";
  host.signal(SIGKILL);
  host.wait();
  EXPECT_TRUE(gone_within_a_second({pid_on_board(1)})) << "its guardian sees to it";
}

TEST_F(Parity, Process_lives_on_when_forker_and_keeper_die) {
  process short_lived = started(+[] {
    board::set(2, 1);
    board::wait(3);
    std::exit(9);
  });
  process direct = started(carom::process_options{.start_method = start_method::fork}, stay, 4);
  process one = started(stay, 1);
  ASSERT_TRUE(pid_on_board(1) && board::wait(2) && pid_on_board(4));
  for (int round = 0; round < 4; ++round) {
    const auto servers = own_servers();
    ASSERT_TRUE(servers.keeper && servers.forker);
    ::kill(round % 2 ? servers.keeper : servers.forker, SIGKILL);
    ASSERT_TRUE(eventually([&] {
      const auto now = own_servers();
      return now.keeper && now.forker && (now.keeper != servers.keeper) + 1 &&
             !is_running(round % 2 ? servers.keeper : servers.forker);
    }));
    process next = started(leave_with, round);
    next.join();
    EXPECT_EQ(next.exitcode(), round);
    EXPECT_TRUE(one.is_alive());
    EXPECT_TRUE(direct.is_alive());
  }
  board::set(3, 1);
  short_lived.join();
  EXPECT_EQ(short_lived.exitcode(), 9);
  one.terminate();
  one.join();
  EXPECT_EQ(one.exitcode(), -SIGTERM);
  direct.terminate();
  direct.join();
  EXPECT_EQ(direct.exitcode(), -SIGTERM);
}

TEST_F(Parity, Process_exit_is_known_when_both_servers_are_gone) {
  running_helper host(host_of_the_lost);
  EXPECT_EQ(host.wait(), 0);
}

TEST_F(Parity, Process_exit_is_known_without_servers_and_pidfd) {
  running_helper host(host_without_pidfd);
  EXPECT_EQ(host.wait(), 0);
}

TEST_F(Parity, Process_killed_at_any_instant) {
  const int kills = std::getenv("CAROM_FULL") ? 5'000 : 300;
  const auto seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 dice(seed);
  for (int i = 0; i < kills; ++i) {
    const auto method = i % 20 == 7  ? start_method::spawn
                        : i % 5 == 0 ? start_method::fork
                                     : start_method::forkserver;
    process victim({.start_method = method}, leave_with, 7);
    victim.start();
    // A program takes longer to begin.
    const auto pause = dice() % (method == start_method::spawn ? 20'000 : 400);
    if (pause > 50) let_pass(std::chrono::microseconds(pause));
    switch (dice() % 4) {
      case 0: victim.kill(); break;
      case 1: victim.terminate(); break;
      case 2: ::kill(victim.pid(), SIGKILL); break;  // its number is kept until it is told of
      default: break;
    }
    if (i % 50 == 0) ::kill(dice() % 2 ? own_servers().forker : own_servers().keeper, SIGKILL);
    ASSERT_TRUE(victim.join(std::chrono::seconds(60))) << i;
    const int code = *victim.exitcode();
    ASSERT_TRUE(code == 7 || code == -SIGKILL || code == -SIGTERM) << code;
  }
}

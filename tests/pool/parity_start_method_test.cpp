// SPDX-License-Identifier: BSL-1.0
// Start methods and `carom::init`.
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <carom/carom.hpp>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>

#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::helper_program;
using carom::test::running_helper;
using carom::test::worker_roster;

std::string configuration = "as it was at init";
std::string configured() { return configuration; }

/// Says on the board what came of a pool in a program that has forgotten carom::init.
enum outcome : std::uint32_t { no_outcome, worked, told_to_call_init, other_error };
outcome try_a_pool() {
  try {
    carom::pool pool{{.processes = 2}};
    return pool.apply(tasks::square, 6) == 36 ? worked : other_error;
  } catch (const carom::start_method_error& e) {
    return std::string(e.what()).find("carom::init") != std::string::npos ? told_to_call_init
                                                                          : other_error;
  }
}

const helper_program threaded_without_init(
    "threaded_without_init",
    [](const helper_program::arguments&) {
      std::jthread other([](std::stop_token) { board::wait(1); });
      board::set(0, try_a_pool());
      board::set(1, 1);
      return 0;
    },
    helper_program::init::missing);

const helper_program single_without_init(
    "single_without_init",
    [](const helper_program::arguments&) {
      board::set(0, try_a_pool());
      return 0;
    },
    helper_program::init::missing);

const helper_program init_with_threads(
    "init_with_threads",
    [](const helper_program::arguments&) {
      std::jthread other([](std::stop_token) { board::wait(1); });
      try {
        carom::init(0, nullptr);
      } catch (const carom::start_method_error&) {
        board::set(0, told_to_call_init);
      }
      board::set(1, 1);
      return 0;
    },
    helper_program::init::missing);

/// Counts what is logged on the board.
const helper_program forks_with_threads("forks_with_threads", [](const helper_program::arguments&) {
  std::ostringstream lines;
  auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(lines);
  carom::set_log(std::make_shared<spdlog::logger>("captured", sink));
  std::jthread other([](std::stop_token) { board::wait(1); });
  for (int i = 0; i < 3; ++i) {
    carom::pool pool{{.processes = 2, .start_method = carom::start_method::fork}};
    pool.apply(tasks::nothing);
  }
  board::set(1, 1);
  std::istringstream logged(lines.str());
  for (std::string line; std::getline(logged, line); board::add(2))
    if (line.find("thread") != std::string::npos) board::add(0);
  return 0;
});

}  // namespace

TEST_F(Parity, Pool_start_method_forkserver) {
  configuration = "as the host has set it";
  carom::pool pool{{.processes = 1, .start_method = carom::start_method::forkserver}};
  EXPECT_EQ(pool.apply(configured), "as it was at init");
  EXPECT_NE(pool.apply(tasks::parent_of_worker), ::getpid());
}

TEST_F(Parity, Pool_start_method_fork) {
  configuration = "as the host has set it";
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 2, .start_method = carom::start_method::fork}));
  EXPECT_EQ(pool.apply(configured), "as the host has set it");
  ASSERT_TRUE(roster.wait_for_alive(2));
  EXPECT_TRUE(roster.alive().contains(pool.apply(tasks::worker)))
      << "the pids are the workers' own";
  EXPECT_EQ(pool.map(tasks::square, std::vector{1, 2, 3}), (std::vector{1, 4, 9}));
  EXPECT_THROW(pool.apply(tasks::die_of, SIGSEGV), carom::worker_lost);
  EXPECT_EQ(pool.apply(tasks::square, 5), 25);
  ASSERT_TRUE(roster.wait_for_alive(2));
  configuration = "changed since";
  ASSERT_TRUE(roster.kill_one());
  ASSERT_TRUE(roster.wait_for_ups(4));
  ASSERT_TRUE(roster.wait_for_alive(2)) << "the dead are replaced";
  EXPECT_EQ(pool.apply(tasks::square, 6), 36);
}

TEST_F(Parity, Pool_start_method_fork_warns_once_of_threads) {
  running_helper helper(forks_with_threads);
  EXPECT_EQ(helper.wait(), 0);
  EXPECT_EQ(board::get(0), 1U) << "lines that name threads";
  EXPECT_EQ(board::get(2), 1U) << "lines in all";
}

TEST_F(Parity, Init_again_does_nothing) {
  carom::init(0, nullptr);
  carom::pool pool{{.processes = 1}};
  carom::init(0, nullptr);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Init_missing_in_a_threaded_program) {
  running_helper helper(threaded_without_init);
  EXPECT_EQ(helper.wait(), 0);
  EXPECT_EQ(board::get(0), told_to_call_init);
}

TEST_F(Parity, Init_missing_in_a_program_without_threads) {
  running_helper helper(single_without_init);
  EXPECT_EQ(helper.wait(), 0);
  EXPECT_EQ(board::get(0), worked);
}

TEST_F(Parity, Init_called_too_late) {
  running_helper helper(init_with_threads);
  EXPECT_EQ(helper.wait(), 0);
  EXPECT_EQ(board::get(0), told_to_call_init);
}

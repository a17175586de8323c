// SPDX-License-Identifier: BSL-1.0
// event: rows of api.md.
#include <gtest/gtest.h>

#include <carom/sync.hpp>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::forked;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

TEST_F(Parity, Sync_event_set_clear_wait) {
  carom::event event;
  EXPECT_FALSE(event.is_set());
  EXPECT_FALSE(event.wait(0s));
  const auto begin = clock_type::now();
  EXPECT_FALSE(event.wait(50ms));
  EXPECT_GE(clock_type::now() - begin, 50ms);
  event.set();
  EXPECT_TRUE(event.is_set());
  EXPECT_TRUE(event.wait());
  EXPECT_TRUE(event.wait(1h));
  EXPECT_TRUE(event.wait(0s));
  event.set();
  EXPECT_TRUE(event.is_set()) << "twice is once";
  event.clear();
  event.clear();
  EXPECT_FALSE(event.is_set());
  EXPECT_FALSE(event.wait(0s));
}

TEST_F(Parity, Sync_event_wakes_all_processes_and_threads) {
  carom::event event;
  std::vector<forked> waiting;
  for (int i = 0; i < 3; ++i)
    waiting.emplace_back([&] {
      board::add(0);
      return event.wait();
    });
  std::thread thread([&] {
    board::add(0);
    EXPECT_TRUE(event.wait());
  });
  board::wait(0, 4);
  event.set();
  for (auto& one : waiting) EXPECT_TRUE(one.succeeded());
  thread.join();
  EXPECT_TRUE(forked([&] { return event.wait(); }).succeeded()) << "and those that come later";
}

TEST_F(Parity, Sync_event_set_by_another_process) {
  carom::event event;
  forked setter([&] {
    event.set();
    return true;
  });
  EXPECT_TRUE(event.wait());
  EXPECT_TRUE(setter.succeeded());
}

TEST_F(Parity, Sync_event_pulse_is_missed_by_nobody_who_waits) {
  carom::event event;
  std::vector<forked> waiting;
  for (int i = 0; i < 3; ++i)
    waiting.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        board::add(0);
        if (!event.wait(30s)) return false;
      }
      return true;
    });
  // A waiter counts itself just before it waits: pulses go on until all have had theirs.
  while (board::get(0) < 300) {
    event.set();
    event.clear();
    std::this_thread::yield();
  }
  event.set();
  for (auto& one : waiting) EXPECT_TRUE(one.succeeded());
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// Processes are killed while they say that work is done, wait for it, or leave the queue.
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>

#include <carom/errors.hpp>
#include <carom/queue.hpp>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/queue/queue_support.hpp"
#include "tests/support/board.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using carom::test::forked_process;
namespace board = carom::test::board;

/// The instant of a kill: somewhere within the time that a few operations take.
void a_while(std::mt19937_64& dice) {
  const timespec time{0, static_cast<long>(dice() % 1'500'000)};
  ::nanosleep(&time, nullptr);
}

int rounds(int few, int many) { return std::getenv("CAROM_FULL") ? many : few; }

TEST_F(Parity, JoinableQueue_kill_workers_between_get_and_task_done) {
  std::mt19937_64 dice(carom::test::seed());
  carom::joinable_queue<int> q;
  constexpr unsigned done = 0, by_the_other = 1, last = 2, waits = 3;
  constexpr std::uint32_t count = 30;
  constexpr int end = -1;
  const auto work = [&](unsigned slot) {
    for (;;) {
      const int item = q.get();
      q.task_done();
      board::add(item == end ? last : slot);
    }
    return 0;
  };
  std::uint32_t undone = 0;
  for (int round = 0; round < rounds(100, 2000); ++round) {
    board::reset();
    for (std::uint32_t i = 0; i < count; ++i) q.put(static_cast<int>(i));
    forked_process joiner([&] {
      board::add(waits);
      return q.join(60s) ? 0 : 1;
    });
    ASSERT_TRUE(board::wait(waits));
    forked_process victim([&] { return work(done); });
    forked_process other([&] { return work(by_the_other); });
    a_while(dice);
    victim.kill();
    ASSERT_EQ(victim.wait(), -SIGKILL);
    while (!q.empty()) std::this_thread::yield();
    // When the other has done this one it has done all that it took.
    q.put(end);
    ASSERT_TRUE(board::wait(last));
    ASSERT_GE(board::get(done) + board::get(by_the_other), count - 1) << "round " << round;
    if (!q.join(0s)) {
      ++undone;
      q.task_done();  // what the dead one had in its hands
    }
    ASSERT_TRUE(q.join(20s)) << "round " << round;
    ASSERT_EQ(joiner.wait(), 0);
    ASSERT_THROW(q.task_done(), carom::process_error) << "all has been said";
    other.kill();
    ASSERT_EQ(other.wait(), -SIGKILL);
  }
  RecordProperty("undone", std::to_string(undone));
}

TEST_F(Parity, JoinableQueue_kill_who_waits_in_join) {
  std::mt19937_64 dice(carom::test::seed());
  carom::joinable_queue<int> q;
  q.put(1);
  forked_process survivor([&] { return q.join(60s) ? 0 : 1; });
  for (int round = 0; round < rounds(100, 2000); ++round) {
    forked_process victim([&] {
      for (;;) (void)q.join(100us);
      return 0;
    });
    a_while(dice);
    victim.kill();
    ASSERT_EQ(victim.wait(), -SIGKILL);
    ASSERT_FALSE(q.join(0s));
  }
  EXPECT_EQ(q.get(), 1);
  q.task_done();
  EXPECT_TRUE(q.join(20s));
  EXPECT_EQ(survivor.wait(), 0);
}

TEST_F(Parity, Queue_kill_who_closes_and_asks) {
  std::mt19937_64 dice(carom::test::seed());
  carom::queue<int> q;
  for (int round = 0; round < rounds(150, 3000); ++round) {
    board::reset();
    forked_process victim([&] {
      for (int i = 0; i < 5; ++i) {
        q.put(i);
        board::add(0);
        if (q.qsize() > 6) return 1;
      }
      q.close();
      q.join_thread();
      return 0;
    });
    a_while(dice);
    victim.kill();
    const int how = victim.wait();
    ASSERT_TRUE(how == 0 || how == -SIGKILL) << how;
    const int returned = static_cast<int>(board::get(0));
    int got = 0;
    for (; got < returned; ++got) ASSERT_EQ(q.get(20s), got);
    q.put(100);
    const int next = q.get(20s);
    if (next != 100) {
      ASSERT_EQ(next, returned) << "what it was putting";
      ASSERT_EQ(q.get(20s), 100);
    }
    ASSERT_EQ(q.qsize(), 0u);
  }
}

}  // namespace

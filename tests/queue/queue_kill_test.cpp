// SPDX-License-Identifier: BSL-1.0
// Processes that are killed or stopped in put and get: the others go on, nothing is lost or
// doubled.
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <carom/queue.hpp>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/queue/queue_support.hpp"
#include "tests/support/board.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using carom::test::forked_process;
namespace board = carom::test::board;

int kills(int few, int many) { return std::getenv("CAROM_FULL") ? many : few; }

/// The instant of a kill: somewhere within the time that a few operations take.
void pass(std::mt19937_64& dice, int most_us) {
  const timespec time{0, static_cast<long>(dice() % static_cast<std::uint64_t>(most_us)) * 1000};
  ::nanosleep(&time, nullptr);
}

struct item {
  std::uint32_t producer = 0;
  std::uint32_t number = 0;
  std::string padding;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& producer& number& padding;
  }
};

std::string padding_of(std::uint32_t number, bool large) {
  if (large && number % 16 == 0) return std::string(70'000, 'L');
  return std::string(number % 50, 's');
}

/// Kills producers; one consumer that lives. Each has put a beginning of its sequence, whole.
void kill_producers(std::int64_t maxsize, bool large) {
  std::mt19937_64 dice(carom::test::seed());
  carom::queue<item> q(maxsize);
  const int rounds = kills(large ? 60 : 120, large ? 1000 : 3000);
  std::map<std::uint32_t, std::uint32_t> next;
  const auto check = [&](const item& got) {
    ASSERT_EQ(got.number, next[got.producer]) << "of producer " << got.producer;
    ASSERT_EQ(got.padding, padding_of(got.number, large));
    ++next[got.producer];
  };
  for (int round = 0; round < rounds && !testing::Test::HasFatalFailure(); ++round) {
    const auto name = static_cast<std::uint32_t>(round);
    board::set(0, 0);
    board::set(1, 0);
    forked_process producer([&, name] {
      for (std::uint32_t i = 0;; ++i) {
        q.put({name, i, padding_of(i, large)});
        board::set(0, i + 1);  // put() has returned
        if (i == 0) board::set(1, 1);
      }
      return 0;
    });
    if (round % 3 == 0) {
      ASSERT_TRUE(board::wait(1));
    }
    for (int i = 0; i < 5; ++i) {
      try {
        check(q.get(1ms));
      } catch (const carom::queue_empty&) {
      }
    }
    pass(dice, 1500);
    producer.kill();
    EXPECT_EQ(producer.wait(), -SIGKILL);
    const std::uint32_t returned = board::get(0);
    // All that it had put is there; of what it was putting, one item or none.
    while (next[name] < returned) check(q.get(20s));
    try {
      while (true) check(q.get_nowait());
    } catch (const carom::queue_empty&) {
    }
    ASSERT_LE(next[name], returned + 1);
    q.put({UINT32_MAX, static_cast<std::uint32_t>(round), padding_of(name, large)});
    check(q.get(20s));
  }
}

TEST_F(Parity, Queue_kill_producers) { kill_producers(0, false); }
TEST_F(Parity, Queue_kill_producers_of_a_bounded_queue) { kill_producers(3, false); }
TEST_F(Parity, Queue_kill_producers_of_large_items) { kill_producers(0, true); }

/// Kills consumers while another takes too: at most one item goes with each.
void kill_consumers(bool large) {
  std::mt19937_64 dice(carom::test::seed());
  carom::queue<item> q;
  // The loop has done all of it once: ASan does not guard its lists of stacks across a fork.
  q.put({0, 0, padding_of(0, large)});
  (void)q.get();
  const int rounds = kills(large ? 60 : 150, large ? 1000 : 3000);
  // Slot 2 + number: how often it was got.
  std::uint32_t made = 0;
  const auto got_slot = [](std::uint32_t number) { return 16 + number; };
  std::uint32_t lost = 0;
  for (int round = 0; round < rounds; ++round) {
    board::reset();
    constexpr std::uint32_t count = 60;
    board::set(0, 0);
    const auto consume = [&] {
      for (;;) {
        const item got = q.get();
        if (got.padding != padding_of(got.number, large)) return 1;
        board::add(got_slot(got.number));
        board::add(0);
      }
      return 0;
    };
    forked_process victim(consume);
    std::optional<forked_process> witness;
    if (round % 2) witness.emplace(consume);
    if (round % 3 == 0) {
      q.put({0, 0, padding_of(0, large)});
      ASSERT_TRUE(board::wait(0));
    }
    for (std::uint32_t i = round % 3 == 0; i < count; ++i) {
      q.put({0, i, padding_of(i, large)});
      ++made;
    }
    pass(dice, 1500);
    victim.kill();
    EXPECT_EQ(victim.wait(), -SIGKILL);
    if (witness) {
      // It takes all that is left, but for one that the victim had in its hands.
      ASSERT_TRUE(board::wait(0, count - 1)) << board::get(0);
      while (!q.empty()) std::this_thread::yield();
      witness->kill();
      EXPECT_EQ(witness->wait(), -SIGKILL);
    } else {
      try {
        std::uint32_t last = 0;
        while (true) {
          const item got = q.get_nowait();
          EXPECT_GE(got.number, last) << "in its order";
          last = got.number;
          board::add(got_slot(got.number));
        }
      } catch (const carom::queue_empty&) {
      }
    }
    std::uint32_t missing = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      ASSERT_LE(board::get(got_slot(i)), 1u) << "item " << i << " of round " << round;
      missing += board::get(got_slot(i)) == 0;
    }
    // The witness may be killed with its last item in its hands, or before it has said so.
    ASSERT_LE(missing, witness ? 2u : 1u) << "round " << round;
    lost += missing;
    ASSERT_TRUE(q.empty());
  }
  std::cout << lost << " of " << made << " items were in the hands of " << rounds << " killed\n";
}

TEST_F(Parity, Queue_kill_consumers) { kill_consumers(false); }
TEST_F(Parity, Queue_kill_consumers_of_large_items) { kill_consumers(true); }

TEST_F(Parity, Queue_kill_anybody_while_all_put_and_get) {
  std::mt19937_64 dice(carom::test::seed());
  carom::queue<int> q(20);
  std::vector<forked_process> crowd;
  const auto join_in = [&] {
    return forked_process([&q] {
      for (;;) {
        try {
          q.put(1, 1ms);
        } catch (const carom::queue_full&) {
        }
        try {
          (void)q.get_nowait();
        } catch (const carom::queue_empty&) {
        }
        try {
          (void)q.get(100us);
        } catch (const carom::queue_empty&) {
        }
        if (q.qsize() > 20) return 1;
      }
      return 0;
    });
  };
  for (int i = 0; i < 4; ++i) crowd.push_back(join_in());
  for (int round = 0; round < kills(200, 3000); ++round) {
    auto& one = crowd[dice() % crowd.size()];
    pass(dice, 1000);
    one.kill();
    ASSERT_EQ(one.wait(), -SIGKILL) << "it saw more items than may be";
    one = join_in();
    ASSERT_LE(q.qsize(), 20u);
  }
  crowd.clear();
  // Nothing that the dead held stays held: all room is to be had, all items too.
  try {
    while (true) (void)q.get_nowait();
  } catch (const carom::queue_empty&) {
  }
  for (int i = 0; i < 20; ++i) q.put(i, 20s);
  EXPECT_THROW(q.put_nowait(20), carom::queue_full);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(q.get(20s), i);
}

TEST_F(Parity, Queue_a_stopped_consumer_delays_the_others_only_a_moment) {
  carom::queue<int> q;
  forked_process stopped([&] {
    board::set(0, 1);
    (void)q.get();
    return 0;
  });
  ASSERT_TRUE(board::wait(0));
  // It waits, then stops: what it is given it cannot take.
  while (q.qsize() != 0) std::this_thread::yield();
  carom::test::board::set(1, 1);
  stopped.kill(SIGSTOP);
  q.put(1);
  q.put(2);
  EXPECT_EQ(q.get(20s), 1);
  EXPECT_EQ(q.get(20s), 2);
  q.put(3);
  stopped.kill(SIGCONT);
  EXPECT_EQ(stopped.wait(), 0) << "once it goes on it is served again";
}

TEST_F(Parity, Queue_a_stopped_producer_keeps_no_room) {
  carom::queue<int> q(2);
  q.put(1);
  q.put(2);
  forked_process stopped([&] {
    board::set(0, 1);
    q.put(3);
    return 0;
  });
  ASSERT_TRUE(board::wait(0));
  stopped.kill(SIGSTOP);
  EXPECT_EQ(q.get(), 1);
  q.put(4, 20s);
  EXPECT_EQ(q.get(20s), 2);
  q.put(5, 20s);
  stopped.kill(SIGCONT);
  EXPECT_EQ(q.get(20s), 4);
  EXPECT_EQ(q.get(20s), 5);
  EXPECT_EQ(q.get(20s), 3);
  EXPECT_EQ(stopped.wait(), 0);
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// The rules of a queue, one by one: whose an item is, and whose room.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "actors/queue_core.hpp"

namespace {

using carom::actors::queue_core;

/// A core, and what a shell would do at once.
struct small_queue {
  queue_core core;
  std::map<queue_core::client, std::deque<int*>> given;
  std::map<queue_core::client, std::uint64_t> positions, room;
  std::int64_t now = 1;

  explicit small_queue(const queue_core::options& options = {}) : core(options) {}

  void serve() {
    for (;;) {
      const auto command = core.next(now);
      switch (command.what_to_do) {
        case queue_core::act::nothing: return;
        case queue_core::act::deliver:
          given[command.who].push_back(static_cast<int*>(command.what));
          core.delivered(command.who, positions[command.who]++, now);
          break;
        case queue_core::act::recall:
          while (core.out(command.who) > command.count) {
            given[command.who].pop_back();
            core.recalled(command.who);
          }
          break;
        case queue_core::act::grant: room[command.who] += command.count; break;
        case queue_core::act::withdraw:
          room[command.who] = std::min(room[command.who], command.count);
          core.withdrawn(command.who, room[command.who]);
          break;
      }
    }
  }
  void wait(queue_core::client who, std::uint32_t threads) {
    core.wants_items(who, threads, true, now);
    serve();
  }
  std::optional<int> take(queue_core::client who) {
    if (given[who].empty()) return std::nullopt;
    const int value = *given[who].front();
    given[who].pop_front();
    core.took(who, positions[who] - given[who].size(), now);
    core.wants_items(who, 0, false, now);
    serve();
    return value;
  }
};

TEST(QueueCore, what_lies_ahead_with_one_goes_to_the_other_who_waits) {
  std::vector<int> items{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  small_queue q;
  const auto a = q.core.connect(), b = q.core.connect();
  for (int& item : items) q.core.put(a, &item);
  for (int i = 0; i < 4; ++i) {
    q.wait(a, 1);
    EXPECT_EQ(q.take(a), i);
  }
  EXPECT_GT(q.core.out(a), 0u) << "it is trusted with more than it asks for";
  EXPECT_EQ(q.core.size(), 6u) << "which is still in the queue";
  q.wait(b, 1);
  EXPECT_EQ(q.take(b), 4) << "and the other gets the oldest of it";
  EXPECT_EQ(q.core.out(a), 0u);
}

TEST(QueueCore, an_item_of_one_who_died_goes_first) {
  std::vector<int> items{0, 1, 2};
  small_queue q;
  const auto a = q.core.connect(), b = q.core.connect();
  for (int& item : items) q.core.put(b, &item);
  q.wait(a, 1);
  ASSERT_EQ(q.core.out(a), 1u);
  q.core.disconnect(a);
  q.wait(b, 1);
  EXPECT_EQ(q.take(b), 0);
}

TEST(QueueCore, who_is_stopped_loses_its_turn_after_a_while) {
  std::vector<int> items{7};
  small_queue q({.grace_ns = 250});
  const auto a = q.core.connect(), b = q.core.connect();
  q.wait(a, 1);
  q.wait(b, 1);
  EXPECT_FALSE(q.core.needs_timer()) << "an idle queue wakes nobody";
  q.core.put(b, &items[0]);
  q.serve();
  ASSERT_EQ(q.core.out(a), 1u) << "who waits longest is first";
  EXPECT_TRUE(q.core.needs_timer());
  q.now += 249;
  q.core.expire(q.now);
  q.serve();
  EXPECT_EQ(q.core.out(b), 0u);
  q.now += 1;
  q.core.expire(q.now);
  q.serve();
  EXPECT_EQ(q.take(b), 7);
  EXPECT_FALSE(q.core.needs_timer());
  // Once it goes on it is served again.
  q.core.put(b, &items[0]);
  q.serve();
  EXPECT_EQ(q.core.out(a), 0u);
  q.wait(a, 1);
  EXPECT_EQ(q.core.out(a), 1u);
}

TEST(QueueCore, room_that_one_does_not_use_is_anothers) {
  std::vector<int> items(8);
  small_queue q({.maxsize = 4});
  const auto a = q.core.connect(), b = q.core.connect();
  for (int i = 0; i < 3; ++i) {
    q.core.wants_room(a, 1, true, q.now);
    q.serve();
    ASSERT_GT(q.room[a], 0u);
    --q.room[a];
    q.core.put(a, &items[0]);
    q.core.wants_room(a, 0, false, q.now);
    q.serve();
  }
  EXPECT_EQ(q.core.size() + q.room[a], 4u);
  q.core.wants_room(b, 1, true, q.now);
  q.serve();
  EXPECT_EQ(q.room[b], 1u);
  EXPECT_EQ(q.room[a], 0u);
  q.core.wants_room(a, 1, true, q.now);
  q.serve();
  EXPECT_EQ(q.room[a], 0u) << "never more than maxsize";
}

}  // namespace

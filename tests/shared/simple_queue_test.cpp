// SPDX-License-Identifier: BSL-1.0
// simple_queue: the row of api.md, within one process and its forked copies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <carom/errors.hpp>
#include <carom/simple_queue.hpp>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/shared/handles.hpp"
#include "tests/support/board.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using carom::simple_queue;
using carom::test::forked;
using carom::test::message_of;
using carom::test::sent;
namespace board = carom::test::board;

TEST_F(Parity, Queue_simple_that_was_moved_from_is_still_the_same) {
  simple_queue<int> q;
  simple_queue<int> moved = std::move(q);
  moved.put(1);
  EXPECT_EQ(q.get(), 1);
}

TEST_F(Parity, Queue_simple_is_first_in_first_out) {
  simple_queue<int> queue;
  EXPECT_TRUE(queue.empty());
  for (int i = 0; i < 1000; ++i) queue.put(i);
  EXPECT_FALSE(queue.empty());
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(queue.get(), i);
  EXPECT_TRUE(queue.empty());
}

TEST_F(Parity, Queue_simple_between_processes) {
  simple_queue<std::string> there, back;
  forked echo([&] {
    for (int i = 0; i < 100; ++i) back.put(there.get() + "!");
    return true;
  });
  for (int i = 0; i < 100; ++i) {
    there.put(std::to_string(i));
    EXPECT_EQ(back.get(10s), std::to_string(i) + "!");
  }
  EXPECT_TRUE(echo.succeeded());
}

TEST_F(Parity, Queue_simple_handle_that_was_sent_is_the_same_queue) {
  simple_queue<int> queue({.capacity = 8192});
  simple_queue<int> other = sent(queue);
  other.put(1);
  EXPECT_EQ(queue.get_nowait(), 1);
  EXPECT_EQ(other.capacity(), 8192u);
  queue.close();
  EXPECT_TRUE(other.closed());
}

TEST_F(Parity, Queue_simple_get_waits_for_an_item) {
  simple_queue<int> queue;
  forked producer([&] {
    board::wait(0);
    queue.put(7);
    return true;
  });
  EXPECT_THROW(queue.get(1ms), carom::queue_empty);
  board::set(0, 1);
  EXPECT_EQ(queue.get(), 7);
  EXPECT_TRUE(producer.succeeded());
}

TEST_F(Parity, Queue_simple_put_waits_for_room) {
  simple_queue<std::string> queue({.capacity = 4096});
  const std::string item(500, 'x');
  int fitted = 0;
  for (;; ++fitted) {
    try {
      queue.put_nowait(item);
    } catch (const carom::queue_full&) {
      break;
    }
  }
  EXPECT_EQ(fitted, 4096 / 520);
  EXPECT_THROW(queue.put(item, 1ms), carom::queue_full);
  forked consumer([&] {
    for (int i = 0; i <= fitted; ++i)
      if (queue.get() != item) return false;
    return true;
  });
  queue.put(item);
  EXPECT_TRUE(consumer.succeeded());
  EXPECT_TRUE(queue.empty());
}

TEST_F(Parity, Queue_simple_nowait_and_timeouts_find_nothing) {
  simple_queue<int> queue;
  EXPECT_THROW(queue.get_nowait(), carom::queue_empty);
  EXPECT_THROW(queue.get(-1s), carom::queue_empty);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THROW(queue.get(50ms), carom::queue_empty);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 50ms);
  queue.put(3);
  EXPECT_EQ(queue.get(std::chrono::hours::max()), 3);
}

TEST_F(Parity, Queue_simple_close_lets_what_is_there_be_taken) {
  simple_queue<int> queue;
  queue.put(1);
  queue.close();
  queue.close();
  EXPECT_TRUE(queue.closed());
  EXPECT_THAT(message_of([&] { queue.put(2); }), testing::HasSubstr("put on a closed queue"));
  EXPECT_THAT(message_of([&] { queue.put_nowait(2); }), testing::HasSubstr("closed"));
  EXPECT_EQ(queue.get(), 1);
  EXPECT_THAT(message_of([&] { queue.get(); }), testing::HasSubstr("get on a closed queue"));
  EXPECT_THAT(message_of([&] { queue.get_nowait(); }), testing::HasSubstr("closed"));
}

TEST_F(Parity, Queue_simple_close_wakes_who_waits) {
  simple_queue<std::string> empty, full({.capacity = 4096});
  while (true) {
    try {
      full.put_nowait(std::string(900, 'x'));
    } catch (const carom::queue_full&) {
      break;
    }
  }
  const auto expect_closed = [](auto f) {
    return [f] {
      board::add(0);
      return message_of(f).find("closed") != std::string::npos;
    };
  };
  forked getter(expect_closed([&] { empty.get(); }));
  forked putter(expect_closed([&] { full.put(std::string(900, 'x')); }));
  ASSERT_TRUE(board::wait(0, 2));
  empty.close();
  full.close();
  EXPECT_TRUE(getter.succeeded());
  EXPECT_TRUE(putter.succeeded());
}

TEST_F(Parity, Queue_simple_many_producers_and_consumers) {
  constexpr int producers = 3, consumers = 3, each = 3000;
  simple_queue<std::pair<int, int>> queue({.capacity = 4096});
  std::vector<forked> children;
  for (int p = 0; p < producers; ++p)
    children.emplace_back([&, p] {
      for (int i = 0; i < each; ++i) queue.put({p, i});
      return true;
    });
  for (int c = 0; c < consumers; ++c)
    children.emplace_back([&] {
      int last[producers] = {-1, -1, -1};
      for (int i = 0; i < producers * each / consumers; ++i) {
        const auto [from, number] = queue.get();
        if (number <= last[from]) return false;  // of each producer, in order
        last[from] = number;
        if (board::add(static_cast<unsigned>(from * each + number)) != 0) return false;
      }
      return true;
    });
  for (forked& child : children) EXPECT_TRUE(child.succeeded());
  EXPECT_TRUE(queue.empty());
  for (unsigned i = 0; i < producers * each; ++i) ASSERT_EQ(board::get(i), 1u);
}

TEST_F(Parity, Queue_simple_many_threads) {
  constexpr int each = 5000;
  simple_queue<int> queue({.capacity = 4096});
  std::vector<std::thread> threads;
  std::atomic<long> sum{0};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 1; i <= each; ++i) queue.put(i);
    });
    threads.emplace_back([&] {
      for (int i = 0; i < each; ++i) sum += queue.get();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sum, 3L * each * (each + 1) / 2);
}

TEST_F(Parity, Queue_simple_capacity) {
  EXPECT_EQ(simple_queue<int>().capacity(), std::size_t{1} << 20);
  EXPECT_EQ(simple_queue<int>({.capacity = 1}).capacity(), 4096u);
  EXPECT_EQ(simple_queue<int>({.capacity = 5000}).capacity(), 8192u);
  EXPECT_THROW(simple_queue<int>({.capacity = 0}), std::invalid_argument);
  EXPECT_THROW(simple_queue<int>({.capacity = ~std::size_t{0}}), std::invalid_argument);
}

TEST_F(Parity, Queue_simple_inherited_by_children_and_grandchildren) {
  simple_queue<int> queue;
  forked child([&] {
    queue.put(1);
    forked grandchild([&] {
      queue.put(queue.get() + 1);
      return true;
    });
    return grandchild.succeeded();
  });
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(queue.get_nowait(), 2);
}

TEST_F(Parity, Queue_simple_cycles_leave_nothing_behind) {
  const int cycles = std::getenv("CAROM_FULL") ? 100'000 : 10'000;
  const auto before = carom::test::holdings::now();
  for (int i = 0; i < cycles; ++i) {
    simple_queue<int> queue;
    queue.put(i);
    if (i % 10 == 0) sent(queue).put(i);
    ASSERT_EQ(queue.get(), i);
  }
  EXPECT_TRUE(carom::test::holdings::now().within(before)) << carom::test::holdings::now();
}

// The size in a frame has 32 bits. The memory is touched with CAROM_FULL only, where it is 4 GiB.
TEST_F(Parity, Queue_simple_carries_more_than_4_GiB) {
  const std::size_t size =
      (std::getenv("CAROM_FULL") ? std::size_t{4} << 30 : std::size_t{16} << 20) + 3;
  simple_queue<std::string> queue({.capacity = 5 * size});
  void* const at =
      ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(at, MAP_FAILED);
  queue.send_payload(std::span(static_cast<const std::byte*>(at), size));
  ::munmap(at, size);
  queue.put("behind it");
  EXPECT_EQ(queue.get_payload().size(), size);
  EXPECT_EQ(queue.get(), "behind it");
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// The rows of api.md on queues, within one process: sizes, time-outs, order, closing.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <carom/errors.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/queue.hpp>
#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

TEST_F(Parity, Queue_put_get) {
  carom::queue<int> q;
  q.put(1);
  q.put(2);
  q.put(3);
  EXPECT_EQ(q.get(), 1);
  EXPECT_EQ(q.get(), 2);
  EXPECT_EQ(q.get(), 3);
}

TEST_F(Parity, Queue_gives_away_what_is_moved_in) {
  using files = std::vector<carom::file_descriptor>;
  carom::queue<files> q(3);
  const auto file = [] { return carom::file_descriptor(::dup(2)); };
  files kept, first, second, third;
  for (files* each : {&kept, &first, &second, &third}) each->push_back(file());
  q.put(kept);
  EXPECT_EQ(kept.size(), 1u);
  q.put(std::move(first));
  EXPECT_TRUE(first.empty());
  q.put_nowait(std::move(second));
  EXPECT_TRUE(second.empty());
  EXPECT_THROW(q.put(std::move(third), 1ms), carom::queue_full);
  EXPECT_EQ(third.size(), 1u) << "it has not been put";
  for (int i = 0; i < 3; ++i) EXPECT_EQ(q.get().size(), 1u);
  q.put(std::move(third), 60s);
  EXPECT_TRUE(third.empty());
  EXPECT_EQ(q.get().size(), 1u);
}

TEST_F(Parity, Queue_put_nowait_get_nowait) {
  carom::queue<std::string> q(2);
  EXPECT_THROW((void)q.get_nowait(), carom::queue_empty);
  q.put_nowait("first");
  q.put_nowait("second");
  EXPECT_THROW(q.put_nowait("third"), carom::queue_full);
  EXPECT_EQ(q.get_nowait(), "first");
  q.put_nowait("third");
  EXPECT_EQ(q.get_nowait(), "second");
  EXPECT_EQ(q.get_nowait(), "third");
  EXPECT_THROW((void)q.get_nowait(), carom::queue_empty);
}

TEST_F(Parity, Queue_qsize_empty_full) {
  carom::queue<int> q(3);
  EXPECT_TRUE(q.empty());
  EXPECT_FALSE(q.full());
  for (std::uint64_t i = 1; i <= 3; ++i) {
    q.put(static_cast<int>(i));
    EXPECT_EQ(q.qsize(), i);
    EXPECT_FALSE(q.empty());
    EXPECT_EQ(q.full(), i == 3);
  }
  for (std::uint64_t i = 3; i-- > 0;) {
    (void)q.get();
    EXPECT_EQ(q.qsize(), i);
    EXPECT_FALSE(q.full());
    EXPECT_EQ(q.empty(), i == 0);
  }
  EXPECT_EQ(q.maxsize(), 3u);
  carom::queue<int> unbounded;
  unbounded.put(1);
  EXPECT_FALSE(unbounded.full());
  EXPECT_EQ(unbounded.maxsize(), 0u);
}

TEST_F(Parity, Queue_maxsize_is_exact_with_all_that_lies_ahead) {
  carom::queue<int> q(10);
  for (int round = 0; round < 50; ++round) {
    int put = 0;
    for (; put < 20; ++put) {
      try {
        q.put_nowait(put);
      } catch (const carom::queue_full&) {
        break;
      }
    }
    ASSERT_EQ(put, 10);
    ASSERT_EQ(q.qsize(), 10u);
    ASSERT_TRUE(q.full());
    for (int i = 0; i < 10; ++i) ASSERT_EQ(q.get_nowait(), i);
    ASSERT_TRUE(q.empty());
  }
}

TEST_F(Parity, Queue_negative_maxsize_is_refused) {
  EXPECT_THROW(carom::queue<int>(-1), std::invalid_argument);
  EXPECT_THROW(carom::joinable_queue<int>(-5), std::invalid_argument);
}

TEST_F(Parity, Queue_timeouts_are_exact) {
  carom::queue<int> q(1);
  for (const auto wanted : {0ms, 1ms, 30ms}) {
    const auto began = clock_type::now();
    EXPECT_THROW((void)q.get(wanted), carom::queue_empty);
    const auto passed = clock_type::now() - began;
    EXPECT_GE(passed, wanted);
    EXPECT_LT(passed, wanted + 500ms);
  }
  q.put(1);
  for (const auto wanted : {0ms, 1ms, 30ms}) {
    const auto began = clock_type::now();
    EXPECT_THROW(q.put(2, wanted), carom::queue_full);
    const auto passed = clock_type::now() - began;
    EXPECT_GE(passed, wanted);
    EXPECT_LT(passed, wanted + 500ms);
  }
  EXPECT_THROW(q.put(2, -1s), carom::queue_full);
  EXPECT_EQ(q.get(std::chrono::hours::max()), 1);
  EXPECT_THROW((void)q.get(-1s), carom::queue_empty);
  q.put(3, std::chrono::hours::max());
  EXPECT_EQ(q.qsize(), 1u) << "what timed out has put nothing";
}

TEST_F(Parity, Queue_get_waits_for_put) {
  carom::queue<int> q;
  std::thread later([&] {
    carom::test::let_pass(20ms);
    q.put(42);
  });
  EXPECT_EQ(q.get(), 42);
  later.join();
}

TEST_F(Parity, Queue_put_waits_for_room) {
  carom::queue<int> q(1);
  q.put(1);
  std::atomic<bool> done = false;
  std::thread putter([&] {
    q.put(2);
    done = true;
  });
  carom::test::let_pass(20ms);
  EXPECT_FALSE(done);
  EXPECT_EQ(q.qsize(), 1u);
  EXPECT_EQ(q.get(), 1);
  EXPECT_EQ(q.get(), 2);
  putter.join();
}

TEST_F(Parity, Queue_values_of_any_type_travel) {
  carom::queue<std::map<std::string, std::vector<double>>> maps;
  maps.put({{"a", {1, 2}}, {"b", {}}});
  EXPECT_EQ(maps.get(), (std::map<std::string, std::vector<double>>{{"a", {1, 2}}, {"b", {}}}));
  carom::queue<std::unique_ptr<std::string>> owned;
  owned.put(std::make_unique<std::string>("moved"));
  EXPECT_EQ(*owned.get(), "moved");
  carom::queue<std::optional<int>> optional;
  optional.put(std::nullopt);
  EXPECT_EQ(optional.get(), std::nullopt);
}

TEST_F(Parity, Queue_large_items) {
  carom::queue<std::string> q;
  std::vector<std::string> items;
  for (const std::size_t size : {65'535, 65'536, 65'537, 70'000, 1'000'000, 16 << 20})
    items.emplace_back(size, static_cast<char>('a' + items.size()));
  for (const auto& item : items) q.put(item);
  EXPECT_EQ(q.qsize(), items.size());
  for (const auto& item : items) EXPECT_TRUE(q.get() == item);
}

TEST_F(Parity, Queue_more_large_items_than_a_process_has_descriptors) {
  carom::queue<std::string> q;
  constexpr int count = 1500;
  for (int i = 0; i < count; ++i) q.put(std::string(70'000, static_cast<char>('a' + i % 26)));
  for (int i = 0; i < count; ++i) {
    const std::string item = q.get();
    ASSERT_EQ(item.size(), 70'000u);
    ASSERT_EQ(item[69'999], 'a' + i % 26);
  }
}

TEST_F(Parity, Queue_items_with_many_descriptors) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const carom::file_descriptor read_end(ends[0]);
  carom::queue<std::vector<carom::file_descriptor>> files;
  for (const std::size_t count : {15, 16, 17, 127, 128, 129, 300}) {  // a message takes 128
    std::vector<carom::file_descriptor> sent;
    for (std::size_t i = 0; i < count; ++i)
      sent.push_back(carom::file_descriptor::duplicate(ends[1]));
    files.put(std::move(sent));
    const auto got = files.get(30s);
    ASSERT_EQ(got.size(), count);
    for (const auto& one : got) ASSERT_EQ(::write(one.get(), "x", 1), 1);
    std::vector<char> read(count);
    ASSERT_EQ(::read(read_end.get(), read.data(), count), static_cast<ssize_t>(count));
  }
  ::close(ends[1]);
}

TEST_F(Parity, Queue_descriptors_and_queues_are_items) {
  carom::queue<carom::file_descriptor> files;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  files.put(carom::file_descriptor(ends[1]));
  {
    const carom::file_descriptor got = files.get();
    ASSERT_EQ(::write(got.get(), "x", 1), 1);
  }
  char read = 0;
  ASSERT_EQ(::read(ends[0], &read, 1), 1);
  EXPECT_EQ(read, 'x');
  ::close(ends[0]);

  carom::queue<carom::queue<int>> queues;
  {
    carom::queue<int> inner;
    inner.put(7);
    queues.put(inner);
  }
  carom::queue<int> back = queues.get();
  EXPECT_EQ(back.get(), 7) << "on its way, a handle keeps the queue";
}

TEST_F(Parity, Queue_many_producers_and_consumers_in_threads) {
  for (const std::int64_t maxsize : {0, 1, 7}) {
    carom::queue<std::pair<int, int>> q(maxsize);
    constexpr int producers = 3, consumers = 3;
    const int each = maxsize == 0 ? 5'000 : 500;
    std::vector<std::thread> threads;
    std::vector<std::vector<std::pair<int, int>>> got(consumers);
    for (int c = 0; c < consumers; ++c)
      threads.emplace_back([&, c] {
        for (;;) {
          const auto item = q.get();
          if (item.first < 0) return;
          got[static_cast<std::size_t>(c)].push_back(item);
        }
      });
    std::vector<std::thread> putters;
    for (int p = 0; p < producers; ++p)
      putters.emplace_back([&, p] {
        for (int i = 0; i < each; ++i) q.put({p, i});
      });
    for (auto& thread : putters) thread.join();
    for (int c = 0; c < consumers; ++c) q.put({-1, 0});
    for (auto& thread : threads) thread.join();
    std::map<std::pair<int, int>, int> counts;
    for (const auto& list : got) {
      std::map<int, int> last;
      for (const auto& [p, i] : list) {
        ++counts[{p, i}];
        if (last.contains(p)) {
          EXPECT_LT(last[p], i);
        }
        last[p] = i;
      }
    }
    EXPECT_EQ(counts.size(), static_cast<std::size_t>(producers * each));
    for (const auto& [item, count] : counts) ASSERT_EQ(count, 1);
    EXPECT_TRUE(q.empty());
  }
}

TEST_F(Parity, Queue_close) {
  carom::queue<int> q;
  q.put(1);
  q.put(2);
  q.close();
  EXPECT_THROW(q.put(3), carom::process_error);
  EXPECT_THROW(q.put_nowait(3), carom::process_error);
  EXPECT_THROW(q.put(3, 1s), carom::process_error);
  q.close();
  EXPECT_EQ(q.get(), 1) << "what was put is delivered";
  EXPECT_EQ(q.get(1s), 2);
  EXPECT_THROW((void)q.get(), carom::process_error) << "which would wait";
  EXPECT_THROW((void)q.get_nowait(), carom::queue_empty);
}

TEST_F(Parity, Queue_close_wakes_who_waits) {
  carom::queue<int> q(1);
  carom::queue<int> none;
  q.put(1);
  std::atomic<int> ended = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      EXPECT_THROW(q.put(2), carom::process_error);
      ++ended;
    });
    threads.emplace_back([&] {
      EXPECT_THROW((void)none.get(), carom::process_error);
      ++ended;
    });
  }
  carom::test::let_pass(10ms);
  EXPECT_EQ(ended, 0);
  q.close();
  none.close();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(q.get(), 1);
}

TEST_F(Parity, Queue_join_thread) {
  carom::queue<int> q;
  EXPECT_THROW(q.join_thread(), carom::process_error) << "before close()";
  for (int i = 0; i < 1000; ++i) q.put(i);
  q.close();
  q.join_thread();
  q.join_thread(0s);
  EXPECT_EQ(q.qsize(), 1000u);
}

TEST_F(Parity, Queue_cancel_join_thread) {
  carom::queue<int> q;
  q.put(1);
  q.cancel_join_thread();
  q.join_thread();
  EXPECT_EQ(q.get(), 1) << "nothing is lost by it";
}

TEST_F(Parity, Queue_copies_mean_the_same_queue) {
  carom::queue<int> a;
  carom::queue<int> b = a;
  carom::queue<int> other;
  EXPECT_EQ(a, b);
  EXPECT_FALSE(a == other);
  a.put(5);
  EXPECT_EQ(b.get(), 5);
  const carom::queue<int> moved = std::move(a);
  EXPECT_EQ(moved, b);
  EXPECT_THROW(a.put(1), carom::process_error);  // NOLINT(bugprone-use-after-move)
}

TEST_F(Parity, JoinableQueue_task_done_join) {
  carom::joinable_queue<int> q;
  q.join();
  for (int i = 0; i < 3; ++i) q.put(i);
  EXPECT_FALSE(q.join(1ms));
  std::thread worker([&] {
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(q.get(), i);
      q.task_done();
    }
  });
  q.join();
  worker.join();
  EXPECT_TRUE(q.join(0s));
}

TEST_F(Parity, JoinableQueue_task_done_too_often) {
  carom::joinable_queue<int> q;
  EXPECT_THROW(q.task_done(), carom::process_error);
  q.put(1);
  q.task_done();
  EXPECT_THROW(q.task_done(), carom::process_error);
  EXPECT_EQ(q.get(), 1);
}

TEST_F(Parity, JoinableQueue_join_wakes_all_who_wait) {
  carom::joinable_queue<int> q;
  q.put(1);
  std::vector<std::thread> waiting;
  std::atomic<int> joined = 0;
  for (int i = 0; i < 4; ++i)
    waiting.emplace_back([&] {
      q.join();
      ++joined;
    });
  EXPECT_EQ(q.get(), 1);
  EXPECT_EQ(joined, 0);
  q.task_done();
  for (auto& thread : waiting) thread.join();
}

}  // namespace

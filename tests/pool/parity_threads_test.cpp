// SPDX-License-Identifier: BSL-1.0
// A pool used by many threads, and many pools.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <carom/carom.hpp>
#include <memory>
#include <optional>
#include <ranges>
#include <thread>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;

constexpr int thread_count = 16;

void in_threads(const std::function<void(int)>& body) {
  std::barrier together(thread_count);
  std::vector<std::jthread> threads;
  for (int t = 0; t < thread_count; ++t)
    threads.emplace_back([&, t] {
      together.arrive_and_wait();
      body(t);
    });
}

struct counts {
  std::atomic<int> values = 0, terminated = 0, refused = 0, others = 0, submitted = 0;
};

/// Submits until the pool refuses; every task that was taken is then asked how it ended.
void submit_until_closed(carom::pool& pool, counts& ended) {
  std::vector<carom::async_result<int>> taken;
  try {
    for (;;) {
      taken.push_back(pool.apply_async(tasks::square, static_cast<int>(taken.size() % 1000)));
      ++ended.submitted;
    }
  } catch (const carom::pool_closed&) {
    ++ended.refused;
  }
  for (std::size_t i = 0; i < taken.size(); ++i) {
    try {
      const int x = static_cast<int>(i % 1000);
      (taken[i].get(std::chrono::seconds(60)) == x * x ? ended.values : ended.others)++;
    } catch (const carom::terminated&) {
      ++ended.terminated;
    } catch (...) {
      ++ended.others;
    }
  }
}

template <class End>
void end_while_submitting(counts& ended, End end) {
  carom::pool pool{{.processes = 2, .max_pending = 10'000}};
  std::vector<std::jthread> threads;
  for (int t = 0; t < thread_count; ++t)
    threads.emplace_back([&] { submit_until_closed(pool, ended); });
  while (ended.submitted < 2000) std::this_thread::yield();
  end(pool);
  threads.clear();
}

}  // namespace

TEST_F(Parity, Pool_used_by_sixteen_threads) {
  carom::pool pool{{.processes = 2}};
  std::atomic<int> right = 0;
  in_threads([&](int t) {
    for (int i = 0; i < 100; ++i) right += pool.apply(tasks::square, t * i) == t * i * t * i;
    right += pool.map(tasks::square, std::views::iota(0, 100)).size() == 100;
    int next = 0;
    for (const int y : pool.imap(tasks::square, std::views::iota(0, 100)))
      right += y == next * next, ++next;
  });
  EXPECT_EQ(right, thread_count * (100 + 1 + 100));
}

TEST_F(Parity, Pool_closed_while_sixteen_threads_submit) {
  for (int round = 0; round < 5; ++round) {
    counts ended;
    end_while_submitting(ended, [](carom::pool& pool) { pool.close(); });
    EXPECT_EQ(ended.refused, thread_count);
    EXPECT_EQ(ended.values, ended.submitted) << "what was taken has been delivered";
    EXPECT_EQ(ended.terminated, 0);
    EXPECT_EQ(ended.others, 0);
  }
}

TEST_F(Parity, Pool_terminated_while_sixteen_threads_submit) {
  for (int round = 0; round < 5; ++round) {
    counts ended;
    end_while_submitting(ended, [](carom::pool& pool) { pool.terminate(); });
    EXPECT_EQ(ended.refused, thread_count);
    EXPECT_EQ(ended.values + ended.terminated, ended.submitted) << "each has ended once";
    EXPECT_EQ(ended.others, 0);
  }
}

TEST_F(Parity, Pool_closed_by_many_threads_at_once) {
  for (int round = 0; round < 10; ++round) {
    carom::pool pool{{.processes = 2}};
    const auto last = pool.apply_async(tasks::square, round);
    in_threads([&](int t) {
      if (t % 4 == 3) pool.terminate();
      pool.close();
      pool.join();
    });
    EXPECT_TRUE(last.ready());
  }
}

TEST_F(Parity, Pool_destroyed_by_another_thread_than_made_or_asked_it) {
  // The others live on meanwhile.
  std::optional<carom::pool> pool;
  std::barrier made(3), destroyed(3);
  std::jthread maker([&] {
    pool.emplace(carom::pool_options{.processes = 1});
    made.arrive_and_wait();
    destroyed.arrive_and_wait();
  });
  std::jthread user([&] {
    made.arrive_and_wait();
    EXPECT_EQ(pool->apply(tasks::square, 3), 9);
    EXPECT_EQ(pool->workers().size(), 1u);
    EXPECT_FALSE(pool->apply_async(tasks::square, 4).worker_pid() < 0);
    made.arrive_and_wait();
    destroyed.arrive_and_wait();
  });
  made.arrive_and_wait();
  (void)made.arrive();  // the maker's part of the second meeting
  made.arrive_and_wait();
  pool.reset();
  destroyed.arrive_and_wait();
}

TEST_F(Parity, Pool_many_pools_side_by_side) {
  std::atomic<int> right = 0;
  in_threads([&](int t) {
    carom::pool pool{{.processes = 1 + t % 3}};
    for (int i = 0; i < 20; ++i) right += pool.apply(tasks::square, t + i) == (t + i) * (t + i);
  });
  EXPECT_EQ(right, thread_count * 20);
}

TEST_F(Parity, Pool_fast_tasks_do_not_wait_behind_a_slow_pool) {
  carom::pool slow{{.processes = 1}}, fast{{.processes = 1}};
  const auto held = slow.apply_async(tasks::hold, 0, 1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(fast.apply(tasks::square, i), i * i);
  EXPECT_FALSE(held.ready());
  board::set(1, 1);
  EXPECT_GT(held.get(), 0);
}

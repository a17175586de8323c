// SPDX-License-Identifier: BSL-1.0
// When a task runs, and whether it runs again: retries, priorities, deadlines, rate limits, which
// celery's users build by hand.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using namespace std::chrono_literals;

constexpr unsigned order = 2;

int place_in_order(int) { return static_cast<int>(board::add(order)); }
/// Kills the worker the first times it is called.
int dies_first(int times, unsigned slot) {
  if (board::add(slot) < static_cast<std::uint32_t>(times)) std::raise(SIGKILL);
  return static_cast<int>(board::get(slot));
}

TEST_F(Parity, Pool_retry_of_lost_tasks) {
  carom::pool pool{{.processes = 2}};
  EXPECT_EQ(pool.apply({.retry = carom::retry_options{.attempts = 3}}, dies_first, 2, order), 3);
  try {
    pool.apply({.retry = carom::retry_options{.attempts = 3}}, tasks::die_of, SIGKILL);
    FAIL();
  } catch (const carom::worker_lost& e) {
    EXPECT_EQ(e.attempts(), 3u);
  }
  board::set(order, 0);
  EXPECT_EQ(pool.apply({.retry = carom::retry_options{.attempts = 2, .backoff = 20ms}}, dies_first,
                       1, order),
            2);
  EXPECT_EQ(pool.metrics().retried, 5u);
}

TEST_F(Parity, Pool_retry_of_map_items_and_of_the_pool) {
  carom::pool pool{{.processes = 2, .retry = {.attempts = 2}}};
  const auto squares = pool.map(
      [](int item) {
        if (item == 5 && board::add(order) == 0) std::raise(SIGKILL);
        return item * item;
      },
      std::vector{1, 2, 3, 4, 5, 6, 7, 8}, 1);
  EXPECT_EQ(squares[4], 25);
  EXPECT_THROW(
      pool.apply({.retry = carom::retry_options{.on_worker_lost = false}}, tasks::die_of, SIGKILL),
      carom::worker_lost);
}

TEST_F(Parity, Pool_retry_counts_the_attempts_of_each_map_item) {
  constexpr unsigned runs = 100;
  carom::pool pool{{.processes = 2, .retry = {.attempts = 3}}};
  const auto dies_at_sevens = [](unsigned item) {
    // More deaths in one chunk than any item may have; of one item as many as it may.
    if (item % 7 == 0 && board::add(runs + item) < 2) std::raise(SIGKILL);
    return item;
  };
  std::vector<unsigned> items(50);
  std::iota(items.begin(), items.end(), 0U);
  for (const std::size_t chunk : {50, 1}) {
    SCOPED_TRACE(chunk);
    for (const unsigned item : items) board::set(runs + item, 0);
    EXPECT_EQ(pool.map(dies_at_sevens, items, chunk), items);
  }
  // One that dies each time is given up after three, with those that had gone untold beside it.
  const auto all = pool.try_map(
      [](unsigned item) {
        if (item == 20) std::raise(SIGKILL);
        return item;
      },
      items, 50);
  EXPECT_FALSE(all[20].has_value());
  for (std::size_t i = 21; i < all.size(); ++i) EXPECT_TRUE(all[i].has_value()) << i;
}

TEST_F(Parity, Pool_retry_with_backoff_and_close) {
  carom::pool pool{{.processes = 1}};
  auto result = pool.apply_async({.retry = carom::retry_options{.attempts = 2, .backoff = 50ms}},
                                 dies_first, 1, order);
  ASSERT_TRUE(board::wait(order));
  pool.close();
  pool.join();
  EXPECT_EQ(result.get(), 2) << "a closed pool finishes what waits to be tried again";
}

TEST_F(Parity, Pool_priority) {
  carom::pool pool{{.processes = 1}};
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  // What is ahead at the worker already is not overtaken.
  std::vector<carom::async_result<int>> usual, urgent, idle;
  for (int i = 0; i < 20; ++i)
    idle.push_back(pool.apply_async({.priority = -1}, place_in_order, i));
  for (int i = 0; i < 20; ++i) usual.push_back(pool.apply_async(place_in_order, i));
  for (int i = 0; i < 20; ++i)
    urgent.push_back(pool.apply_async({.priority = 5}, place_in_order, i));
  board::set(release, 1);
  const auto sum = [](auto& results) {
    int all = 0;
    for (auto& each : results) all += each.get();
    return all;
  };
  const int of_urgent = sum(urgent), of_usual = sum(usual), of_idle = sum(idle);
  EXPECT_LT(of_urgent, of_usual);
  EXPECT_LT(of_usual, of_idle);
  EXPECT_GT(idle.back().get(), urgent.back().get());
}

TEST_F(Parity, Pool_priority_is_the_order_in_which_tasks_begin) {
  // One at a time is given to the worker, so that none is ahead there.
  carom::pool pool{{.processes = 1, .max_tasks_per_child = 1}};
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  const std::vector<int> priorities{0, 3, -2, 3, 1, 0, -2, 7};
  std::vector<carom::async_result<int>> results;
  for (const int priority : priorities)
    results.push_back(pool.apply_async({.priority = priority}, place_in_order, 0));
  board::set(release, 1);
  std::vector<int> places;
  for (auto& each : results) places.push_back(each.get());
  EXPECT_EQ(places, (std::vector{4, 1, 6, 2, 3, 5, 7, 0})) << "equals in the order they came";
}

TEST_F(Parity, Pool_priority_of_map_chunks) {
  carom::pool pool{{.processes = 1, .max_tasks_per_child = 1}};
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  auto usual = pool.map_async(place_in_order, std::vector{0, 0, 0}, 1);
  auto urgent = pool.map_async({.priority = 1}, place_in_order, std::vector{0, 0, 0}, 1);
  board::set(release, 1);
  EXPECT_EQ(urgent.get(), (std::vector{0, 1, 2}));
  EXPECT_EQ(usual.get(), (std::vector{3, 4, 5}));
}

TEST_F(Parity, Pool_deadline_of_map_chunks) {
  carom::pool pool{{.processes = 1}};
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  auto late = pool.map_async({.deadline = 20ms}, place_in_order, std::vector(10, 0), 5);
  auto patient = pool.map_async({.deadline = 1h}, place_in_order, std::vector(4, 0), 2);
  EXPECT_THROW(late.get(60s), carom::timeout_error);
  EXPECT_TRUE(carom::test::eventually([&] { return pool.metrics().expired == 2; })) << "chunks";
  board::set(release, 1);
  EXPECT_EQ(patient.get(), (std::vector{0, 1, 2, 3})) << "none of the late ones has run";
}

TEST_F(Parity, Pool_deadline) {
  carom::pool pool{{.processes = 1}};
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  std::vector<carom::async_result<int>> late;
  for (int i = 0; i < 10; ++i)
    late.push_back(pool.apply_async({.deadline = 20ms}, place_in_order, i));
  for (auto& each : late) EXPECT_THROW(each.get(), carom::timeout_error);
  board::set(release, 1);
  held.get();
  EXPECT_EQ(pool.apply({.deadline = 1h}, place_in_order, 0), 0) << "none of the late ones ran";
  EXPECT_EQ(pool.metrics().expired, 10u);
}

TEST_F(Parity, Pool_rate_limit) {
  carom::pool pool{
      {.processes = 2,
       .rate_limit = carom::rate_limit_options{.tasks = 100, .period = 1s, .burst = 5}}};
  const auto start = std::chrono::steady_clock::now();
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 25; ++i) results.push_back(pool.apply_async(tasks::square, i));
  for (auto& each : results) each.get();
  EXPECT_GE(std::chrono::steady_clock::now() - start, 200ms) << "20 beyond the burst, 10 ms each";
}

}  // namespace

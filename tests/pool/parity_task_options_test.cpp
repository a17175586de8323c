// SPDX-License-Identifier: BSL-1.0
// Rows `timeout`, `soft_timeout` and `.retry` of api.md: what is out of range is refused at the
// call, by each function that takes task_options.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <chrono>
#include <ranges>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;

int sum_of_two(int a, int b) { return a + b; }

template <class Items, class Tuples>
void refuse_all(carom::pool& pool, const carom::task_options& bad, const Items& items,
                const Tuples& tuples) {
  EXPECT_THROW(pool.map(bad, tasks::square, items), std::invalid_argument);
  EXPECT_THROW(pool.map_async(bad, tasks::square, items), std::invalid_argument);
  EXPECT_THROW(pool.starmap(bad, sum_of_two, tuples), std::invalid_argument);
  EXPECT_THROW(pool.starmap_async(bad, sum_of_two, tuples), std::invalid_argument);
  EXPECT_THROW(pool.try_map(bad, tasks::square, items), std::invalid_argument);
  EXPECT_THROW(pool.imap(bad, tasks::square, items), std::invalid_argument);
  EXPECT_THROW(pool.imap_unordered(bad, tasks::square, items), std::invalid_argument);
}

}  // namespace

TEST_F(Parity, Pool_task_options_out_of_range_are_refused_at_the_call) {
  carom::pool pool{{.processes = 1}};
  using options = carom::task_options;
  for (const options& bad :
       {options{.time_limit = 0s}, options{.time_limit = -1s}, options{.soft_time_limit = 0s},
        options{.soft_time_limit = -1ns}, options{.deadline = 0s}, options{.deadline = -1s},
        options{.retry = carom::retry_options{.attempts = 0}},
        options{.retry = carom::retry_options{.backoff = -1s}}}) {
    EXPECT_THROW(pool.apply(bad, tasks::square, 1), std::invalid_argument);
    EXPECT_THROW(pool.apply_async(bad, tasks::square, 1), std::invalid_argument);
    refuse_all(pool, bad, std::vector{1, 2}, std::vector{std::tuple(1, 2)});
    refuse_all(pool, bad, std::vector<int>{}, std::vector<std::tuple<int, int>>{});
  }
  EXPECT_EQ(pool.apply(tasks::square, 2), 4);
}

/// A source is not touched by a call that is refused.
TEST_F(Parity, Pool_task_options_out_of_range_take_nothing_from_the_source) {
  carom::pool pool{{.processes = 1}};
  int taken = 0;
  auto source = std::views::iota(0, 3) | std::views::filter([&](int) {
                  ++taken;
                  return true;
                });
  EXPECT_THROW(pool.map({.time_limit = 0s}, tasks::square, source), std::invalid_argument);
  EXPECT_THROW(pool.imap({.time_limit = 0s}, tasks::square, source), std::invalid_argument);
  EXPECT_EQ(taken, 0);
}

// SPDX-License-Identifier: BSL-1.0
// Rows `map`, `map_async`, `starmap`, `starmap_async` and `try_map` of api.md.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <list>
#include <numeric>
#include <ranges>
#include <sstream>
#include <string>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;

std::string exclaimed(const std::string& text) { return text + "!"; }
int power(int base, int exponent) { return exponent ? base * power(base, exponent - 1) : 1; }
void record(int item) { board::add(static_cast<unsigned>(item)); }

int refuse_sevens(int x) {
  board::add(0);
  if (x % 7 == 0) throw std::out_of_range("seven divides " + std::to_string(x));
  return x;
}

struct point {
  int x = 0, y = 0;
  friend bool operator==(const point&, const point&) = default;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& x& y;
  }
};
point mirrored(point p) { return {p.y, p.x}; }

std::vector<int> numbers(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<int> squares(int count) {
  std::vector<int> all = numbers(count);
  for (int& n : all) n *= n;
  return all;
}

}  // namespace

TEST_F(Parity, Pool_map) {
  carom::pool pool{{.processes = 2}};
  for (const int count : {0, 1, 2, 7, 8, 9, 1000, 4099})
    EXPECT_EQ(pool.map(tasks::square, numbers(count)), squares(count)) << count << " items";
}

TEST_F(Parity, Pool_map_chunk_sizes) {
  carom::pool pool{{.processes = 3}};
  for (const std::size_t chunk : {1, 2, 3, 99, 100, 101, 5000})
    EXPECT_EQ(pool.map(tasks::square, numbers(100), chunk), squares(100)) << chunk << " a chunk";
}

TEST_F(Parity, Pool_map_any_range) {
  carom::pool pool{{.processes = 2}};
  EXPECT_EQ(pool.map(tasks::square, std::list{3, 2, 1}), (std::vector{9, 4, 1}));
  EXPECT_EQ(pool.map(tasks::square, std::views::iota(0, 50)), squares(50));
  auto even = std::views::iota(0, 10) | std::views::filter([](int i) { return i % 2 == 0; });
  EXPECT_EQ(pool.map(tasks::square, even), (std::vector{0, 4, 16, 36, 64}));
  std::istringstream text("1 2 3");
  EXPECT_EQ(pool.map(tasks::square, std::ranges::istream_view<int>(text)), (std::vector{1, 4, 9}));
  const int array[] = {5, 6};
  EXPECT_EQ(pool.map(tasks::square, array), (std::vector{25, 36}));
}

TEST_F(Parity, Pool_map_void_function) {
  carom::pool pool{{.processes = 2}};
  static_assert(std::is_void_v<decltype(pool.map(record, numbers(1)))>);
  pool.map(record, numbers(500));
  for (unsigned i = 0; i < 500; ++i) EXPECT_EQ(board::get(i), 1U) << "item " << i;
  pool.map(record, numbers(0));
}

TEST_F(Parity, Pool_map_strings_and_user_types) {
  carom::pool pool{{.processes = 2}};
  EXPECT_EQ(pool.map(exclaimed, std::vector<std::string>{"a", "", "long enough for the heap"}),
            (std::vector<std::string>{"a!", "!", "long enough for the heap!"}));
  EXPECT_EQ(pool.map(exclaimed, std::vector<const char*>{"x", "y"}),
            (std::vector<std::string>{"x!", "y!"}));
  EXPECT_EQ(pool.map(mirrored, std::vector<point>{{1, 2}, {3, 4}}),
            (std::vector<point>{{2, 1}, {4, 3}}));
  EXPECT_EQ(pool.map([](int x) { return x > 1; }, std::vector{1, 2}),
            (std::vector<bool>{false, true}));
}

TEST_F(Parity, Pool_map_million_items) {
  carom::pool pool{{.processes = 2}};
  constexpr int count = 1'000'000;
  const auto results = pool.map([](int x) { return x + 1; }, numbers(count));
  ASSERT_EQ(results.size(), static_cast<std::size_t>(count));
  EXPECT_EQ(results.front(), 1);
  EXPECT_EQ(results.back(), count);
  EXPECT_EQ(std::accumulate(results.begin(), results.end(), std::int64_t{0}),
            std::int64_t{count} * (count + 1) / 2);
}

TEST_F(Parity, Pool_map_items_larger_than_any_ring) {
  carom::pool pool{{.processes = 2}};
  const std::vector<std::string> large(6, std::string(700'000, 'x'));
  const auto results = pool.map(exclaimed, large, 2);
  ASSERT_EQ(results.size(), 6U);
  for (const auto& each : results) EXPECT_EQ(each, large[0] + "!");
}

TEST_F(Parity, Pool_map_async) {
  carom::pool pool{{.processes = 2}};
  const carom::async_result<std::vector<int>> result = pool.map_async(tasks::square, numbers(100));
  const auto nothing = pool.map_async(tasks::square, numbers(0));
  EXPECT_EQ(result.get(), squares(100));
  EXPECT_EQ(result.get(), squares(100));
  EXPECT_TRUE(result.successful());
  EXPECT_TRUE(nothing.get().empty());
}

TEST_F(Parity, Pool_map_first_error_wins_and_the_others_run_on) {
  carom::pool pool{{.processes = 2}};
  EXPECT_THROW(pool.map(refuse_sevens, std::views::iota(1, 8), 1), std::out_of_range);
  pool.close();
  pool.join();
  EXPECT_EQ(board::get(0), 7U) << "chunks of one item: all have run";
}

TEST_F(Parity, Pool_starmap) {
  carom::pool pool{{.processes = 2}};
  const std::vector<std::tuple<int, int>> tuples{{2, 3}, {3, 2}, {5, 0}};
  EXPECT_EQ(pool.starmap(power, tuples), (std::vector{8, 9, 1}));
  const std::vector<std::pair<int, int>> pairs{{2, 10}, {10, 2}};
  EXPECT_EQ(pool.starmap(power, pairs), (std::vector{1024, 100}));
  EXPECT_EQ(pool.starmap(power, pairs, 1), (std::vector{1024, 100}));
  EXPECT_TRUE(pool.starmap(power, std::vector<std::pair<int, int>>{}).empty());
}

TEST_F(Parity, Pool_starmap_async) {
  carom::pool pool{{.processes = 2}};
  const auto result = pool.starmap_async(power, std::vector<std::pair<int, int>>{{2, 4}});
  EXPECT_EQ(result.get(), std::vector{16});
}

TEST_F(Parity, Pool_try_map) {
  carom::pool pool{{.processes = 2}};
  for (const std::size_t chunk : {0, 1, 3, 100}) {
    const auto outcomes = pool.try_map(refuse_sevens, std::views::iota(1, 31), chunk);
    ASSERT_EQ(outcomes.size(), 30U);
    for (int x = 1; x <= 30; ++x) {
      const auto& outcome = outcomes[static_cast<std::size_t>(x - 1)];
      if (x % 7 != 0) {
        EXPECT_EQ(outcome.value(), x);
        EXPECT_EQ(outcome.error(), nullptr);
        continue;
      }
      EXPECT_FALSE(outcome);
      EXPECT_THROW(outcome.value(), std::out_of_range);
    }
  }
  EXPECT_TRUE(pool.try_map(refuse_sevens, std::vector<int>{}).empty());
  const auto voids = pool.try_map(record, numbers(3));
  EXPECT_EQ(voids.size(), 3U);
  for (const auto& each : voids) EXPECT_TRUE(each.has_value());
}

TEST_F(Parity, Pool_maps_at_the_same_time) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<std::vector<int>>> results;
  for (int i = 0; i < 50; ++i) results.push_back(pool.map_async(tasks::square, numbers(i * 10)));
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(results[static_cast<std::size_t>(i)].get(), squares(i * 10));
}

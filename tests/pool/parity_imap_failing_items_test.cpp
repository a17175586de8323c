// SPDX-License-Identifier: BSL-1.0
// Rows `imap` and `imap_unordered` of api.md: items that cannot be packed, and sources that throw.
#include <gtest/gtest.h>

#include <algorithm>
#include <carom/carom.hpp>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

/// A number that cannot be packed if it is a multiple of four.
struct fours_stay {
  int number = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    if (Archive::is_saving::value && number % 4 == 0) throw std::logic_error("I stay here");
    archive& number;
  }
};
int number_of(const fours_stay& one) { return one.number; }

std::vector<fours_stay> numbers_to(int count) {
  std::vector<fours_stay> all;
  for (int i = 0; i < count; ++i) all.push_back({i});
  return all;
}

/// What becomes of the items, one after the other: numbers, and in words what is thrown.
template <class Range>
std::vector<std::string> read(Range& items) {
  std::vector<std::string> seen;
  while (seen.size() < 100) {
    try {
      const auto item = items.next(std::chrono::seconds(60));
      if (!item) break;
      seen.push_back(std::to_string(*item));
    } catch (const carom::encoding_error&) {
      seen.emplace_back("encoding_error");
    } catch (const std::exception& e) {
      seen.emplace_back(e.what());
    }
  }
  return seen;
}

auto throws_at(int last) {
  return std::views::iota(0) | std::views::transform([last](int i) {
           if (i == last) throw std::out_of_range("no more");
           return i;
         });
}

struct cannot_travel_now {
  bool stays = false;
  int operator()(int x) const { return x; }
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    if (stays) throw std::logic_error("I stay here");
    archive& stays;
  }
};

}  // namespace

TEST_F(Parity, Pool_imap_item_that_cannot_be_packed_is_an_error_in_its_place) {
  carom::pool pool{{.processes = 2}};
  std::vector<std::string> expected;
  for (int i = 0; i < 14; ++i)
    expected.push_back(i % 4 == 0 ? "encoding_error" : std::to_string(i));
  for (const std::size_t chunk : {1, 2, 3, 4, 100}) {
    SCOPED_TRACE(chunk);
    auto items = pool.imap(number_of, numbers_to(14), chunk);
    EXPECT_EQ(read(items), expected);
    EXPECT_EQ(items.next(), std::nullopt);
  }
}

TEST_F(Parity, Pool_imap_unordered_item_that_cannot_be_packed_is_one_error) {
  carom::pool pool{{.processes = 2}};
  std::vector<std::string> expected;
  for (int i = 0; i < 14; ++i)
    expected.push_back(i % 4 == 0 ? "encoding_error" : std::to_string(i));
  std::ranges::sort(expected);
  for (const std::size_t chunk : {1, 3, 100}) {
    SCOPED_TRACE(chunk);
    auto items = pool.imap_unordered(number_of, numbers_to(14), chunk);
    auto seen = read(items);
    std::ranges::sort(seen);
    EXPECT_EQ(seen, expected);
    EXPECT_EQ(items.next(), std::nullopt);
  }
}

TEST_F(Parity, Pool_imap_item_that_cannot_be_packed_with_iterators) {
  carom::pool pool{{.processes = 1}};
  auto items = pool.imap(number_of, numbers_to(3));
  auto it = items.begin();
  EXPECT_THROW(*it, carom::encoding_error);
  EXPECT_EQ(*++it, 1);
  EXPECT_EQ(*++it, 2);
  EXPECT_TRUE(++it == items.end());
}

TEST_F(Parity, Pool_imap_none_of_the_items_can_be_packed) {
  carom::pool pool{{.processes = 1}};
  auto items = pool.imap(number_of, std::vector<fours_stay>(200), 3);
  for (int i = 0; i < 200; ++i) EXPECT_THROW(items.next(), carom::encoding_error);
  EXPECT_EQ(items.next(), std::nullopt);
}

TEST_F(Parity, Pool_imap_source_that_throws_ends_the_range_in_its_place) {
  carom::pool pool{{.processes = 2}};
  for (const std::size_t chunk : {1, 2, 5, 100}) {
    SCOPED_TRACE(chunk);
    auto items = pool.imap(tasks::square, throws_at(5), chunk);
    EXPECT_EQ(read(items), (std::vector<std::string>{"0", "1", "4", "9", "16", "no more"}));
    EXPECT_EQ(items.next(), std::nullopt);
    auto unordered = pool.imap_unordered(tasks::square, throws_at(5), chunk);
    auto seen = read(unordered);
    ASSERT_EQ(seen.size(), 6u);
    EXPECT_EQ(seen.back(), "no more") << "behind all that was under way";
    std::ranges::sort(seen);
    EXPECT_EQ(seen, (std::vector<std::string>{"0", "1", "16", "4", "9", "no more"}));
    EXPECT_EQ(unordered.next(), std::nullopt);
  }
  auto at_once = pool.imap(tasks::square, throws_at(0));
  EXPECT_EQ(read(at_once), (std::vector<std::string>{"no more"}));
}

TEST_F(Parity, Pool_imap_function_that_cannot_be_packed_ends_the_range) {
  carom::pool pool{{.processes = 1}};
  auto items = pool.imap(cannot_travel_now{true}, std::views::iota(0));
  EXPECT_THROW(items.next(), carom::encoding_error);
  EXPECT_EQ(items.next(), std::nullopt);
}

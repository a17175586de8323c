// SPDX-License-Identifier: BSL-1.0
// array and raw_array: the row of api.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <carom/shared.hpp>
#include <numeric>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/shared/handles.hpp"
#include "tests/shared/point.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace carom::test;
using carom::raw_array;
using testing::ElementsAre;

/// Prefix sums, computed in another process.
template <template <class> class Array>
void sum_elsewhere() {
  std::vector<int> expected{680, 626, 934, 821, 150, 233, 548, 982, 714, 831};
  Array<int> elements(expected);
  ASSERT_EQ(elements.size(), expected.size());
  EXPECT_EQ(elements[3], expected[3]);
  EXPECT_THAT(elements, testing::ElementsAreArray(expected));
  const auto sum_up = [](auto& all) {
    for (std::size_t i = 1; i < all.size(); ++i) all[i] += all[i - 1];
  };
  sum_up(expected);
  forked child([&] {
    sum_up(elements);
    return true;
  });
  EXPECT_TRUE(child.succeeded());
  EXPECT_THAT(elements, testing::ElementsAreArray(expected));
}

TEST_F(Parity, Shared_array) { sum_elsewhere<carom::array>(); }
TEST_F(Parity, Shared_raw_array) { sum_elsewhere<raw_array>(); }

TEST_F(Parity, Shared_array_slices) {
  carom::array<int> elements(std::views::iota(0, 10));
  EXPECT_THAT(elements.to_vector(2, 5), ElementsAre(2, 3, 4, 5, 6));
  EXPECT_THAT(elements.to_vector(8, 5), ElementsAre(8, 9));
  EXPECT_THAT(elements.to_vector(10), testing::IsEmpty());
  EXPECT_THROW(elements.to_vector(11), std::out_of_range);
  elements.assign(4, std::array{1, 2, 3, 4});
  EXPECT_THAT(elements.to_vector(), ElementsAre(0, 1, 2, 3, 1, 2, 3, 4, 8, 9));
  EXPECT_THROW(elements.assign(8, std::array{1, 2, 3}), std::out_of_range);
  EXPECT_EQ(elements.get(8), 8) << "nothing was changed";
  elements.with([](std::span<int> all) { std::ranges::fill(all, 5); });
  EXPECT_EQ(std::accumulate(elements.begin(), elements.end(), 0), 50);
}

TEST_F(Parity, Shared_array_index_out_of_range) {
  carom::array<int> elements(3);
  EXPECT_EQ(elements.at(2), 0);
  for (const std::size_t beyond : {std::size_t{3}, ~std::size_t{0}}) {
    EXPECT_THROW(elements.at(beyond), std::out_of_range);
    EXPECT_THROW(elements.get(beyond), std::out_of_range);
    EXPECT_THROW(elements.set(beyond, 1), std::out_of_range);
    EXPECT_THROW(std::as_const(elements).at(beyond), std::out_of_range);
  }
  EXPECT_THROW(raw_array<int>{}.at(0), std::out_of_range);
  elements.set(0, 1);
}

TEST_F(Parity, Shared_array_ways_to_make_one) {
  EXPECT_THAT(carom::array<int>(3), ElementsAre(0, 0, 0));
  EXPECT_THAT(carom::array<int>(2, 7), ElementsAre(7, 7));
  EXPECT_THAT((carom::array<int>{4, 5}), ElementsAre(4, 5));
  EXPECT_THAT(carom::array<double>(std::vector<int>{1, 2}), ElementsAre(1.0, 2.0));
  EXPECT_EQ(carom::array<point>(2)[1].x, 1) << "each as its type begins";
  EXPECT_TRUE(carom::array<int>(0).empty());
  auto odd = std::views::iota(0, 6) | std::views::filter([](int i) { return i % 2 != 0; });
  EXPECT_THAT(raw_array<int>(odd), ElementsAre(1, 3, 5));
  EXPECT_THROW(carom::array<int>(~std::size_t{0} / 4), std::invalid_argument);
  carom::array<long> large(std::size_t{1} << 30);  // 8 GiB that nobody touches
  large.set(large.size() - 1, 1);
  EXPECT_EQ(sent(large)[large.size() - 1], 1);
}

TEST_F(Parity, Shared_array_of_text) {
  carom::array<char> text(20);
  text.set_str("hello");
  forked child([&] {
    text.set_str(text.str() + text.str());
    return true;
  });
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(text.str(), "hellohello");
  text.set_str(std::string(20, 'x'));
  EXPECT_EQ(text.str(), std::string(20, 'x'));
  EXPECT_THROW(text.set_str(std::string(21, 'y')), std::out_of_range);
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
#include "actors/hungry_line.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "tests/actors/dice.hpp"

namespace carom::test {
namespace {

using actors::hungry_line;
using testing::ElementsAre;
using testing::IsEmpty;

/// Everybody, from the front; the line is empty then.
std::vector<hungry_line::worker_index> emptied(hungry_line& line) {
  std::vector<hungry_line::worker_index> all;
  for (; !line.empty(); line.pop_front()) all.push_back(line.front());
  return all;
}

TEST(HungryLine, IsServedFromTheFront) {
  hungry_line line;
  for (const auto w : {2u, 0u, 1u}) line.to_back(w);
  EXPECT_EQ(line.size(), 3u);
  EXPECT_THAT(emptied(line), ElementsAre(2, 0, 1));
  EXPECT_EQ(line.size(), 0u);
}

TEST(HungryLine, NobodyStandsInItTwice) {
  hungry_line line;
  for (const auto w : {0u, 1u, 0u}) line.to_back(w);
  EXPECT_THAT(emptied(line), ElementsAre(0, 1)) << "who stands in it keeps its place";
}

TEST(HungryLine, WhoIsPutToTheFrontStandsThereOnly) {
  hungry_line line;
  for (const auto w : {0u, 1u, 2u}) line.to_back(w);
  line.to_front(2);
  line.to_front(7);
  EXPECT_EQ(line.size(), 4u);
  EXPECT_THAT(emptied(line), ElementsAre(7, 2, 0, 1));
}

TEST(HungryLine, AnybodyMayLeaveAndComeAgain) {
  hungry_line line;
  for (const auto w : {0u, 1u, 2u}) line.to_back(w);
  line.leave(1);
  line.leave(1);
  line.leave(99);  // was never there
  EXPECT_FALSE(line.holds(1));
  line.to_back(1);
  EXPECT_THAT(emptied(line), ElementsAre(0, 2, 1));
  EXPECT_THAT(emptied(line), IsEmpty());
}

TEST(HungryLine, DoesWhatAPlainListDoes) {
  dice chance(20261125);
  hungry_line line;
  std::deque<hungry_line::worker_index> plain;
  const auto out = [&](auto w) { std::erase(plain, w); };
  for (int i = 0; i < 20'000; ++i) {
    const auto w = static_cast<hungry_line::worker_index>(chance.below(20));
    switch (chance.below(4)) {
      case 0:
        line.to_front(w);
        out(w);
        plain.push_front(w);
        break;
      case 1:
        line.to_back(w);
        if (std::ranges::find(plain, w) == plain.end()) plain.push_back(w);
        break;
      case 2:
        line.leave(w);
        out(w);
        break;
      default:
        if (plain.empty()) break;
        line.pop_front();
        plain.pop_front();
    }
    ASSERT_EQ(line.size(), plain.size());
    ASSERT_EQ(line.holds(w), std::ranges::find(plain, w) != plain.end());
    if (!plain.empty()) {
      ASSERT_EQ(line.front(), plain.front());
    }
  }
  EXPECT_EQ(emptied(line), std::vector(plain.begin(), plain.end()));
}

}  // namespace
}  // namespace carom::test

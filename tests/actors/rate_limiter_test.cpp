// SPDX-License-Identifier: BSL-1.0
#include "actors/rate_limiter.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace carom::test {
namespace {

using actors::rate_limiter;

constexpr std::int64_t day = 86'400'000'000'000;

/// How many tokens there are at one moment, up to `most`.
int tokens(rate_limiter& limiter, std::int64_t now, int most) {
  int count = 0;
  while (count < most && limiter.has_token(now)) {
    limiter.take(now);
    ++count;
  }
  return count;
}

TEST(RateLimiter, WithoutAnIntervalThereIsNoLimit) {
  rate_limiter limiter(0, 1);
  EXPECT_FALSE(limiter.limited());
  EXPECT_EQ(tokens(limiter, 5, 1'000), 1'000);
}

TEST(RateLimiter, ABurstAndThenOneEachInterval) {
  rate_limiter limiter(10, 3);
  EXPECT_EQ(tokens(limiter, 1'000, 10), 3);
  EXPECT_EQ(limiter.next_ns(), 1'010);
  EXPECT_EQ(tokens(limiter, 1'009, 10), 0);
  EXPECT_EQ(tokens(limiter, 1'010, 10), 1);
  EXPECT_EQ(tokens(limiter, 1'035, 10), 2);
  EXPECT_EQ(tokens(limiter, 1'000'000, 10), 3) << "no more than the burst is saved up";
}

TEST(RateLimiter, WhatWasNotBegunIsGivenBack) {
  rate_limiter limiter(10, 1);
  EXPECT_EQ(tokens(limiter, 100, 10), 1);
  limiter.give_back();
  EXPECT_EQ(tokens(limiter, 100, 10), 1);
}

TEST(RateLimiter, ABurstThatIsWorthCenturies) {
  constexpr int burst = 1'000'000;
  rate_limiter limiter(day, burst);
  EXPECT_EQ(tokens(limiter, 1'000, burst + 10), burst);
  EXPECT_EQ(limiter.next_ns(), 1'000 + day);
  EXPECT_EQ(tokens(limiter, 1'000 + day, 10), 1);
}

TEST(RateLimiter, AnIntervalWithoutEndLetsTheBurstGoAndNoMore) {
  for (const std::int64_t interval : {INT64_MAX, std::int64_t{9'000'000'000'000'000'000}})
    for (const std::uint32_t burst : {1u, 2u, 3u, 1'000u}) {
      rate_limiter limiter(interval, burst);
      EXPECT_EQ(tokens(limiter, 1'000'000'000, 2'000), static_cast<int>(burst)) << interval;
      EXPECT_GE(limiter.next_ns(), interval) << "and not a moment of the past";
    }
}

TEST(RateLimiter, TheLargestNumbersThereAre) {
  rate_limiter limiter(INT64_MAX, UINT32_MAX);
  EXPECT_EQ(tokens(limiter, 0, 10'000), 10'000);
  EXPECT_TRUE(limiter.has_token(INT64_MAX));
  EXPECT_EQ(limiter.next_ns(), INT64_MIN) << "there is one";
}

TEST(RateLimiter, ABurstOfNoneIsOne) {
  rate_limiter limiter(10, 0);
  EXPECT_EQ(tokens(limiter, 100, 10), 1);
}

}  // namespace
}  // namespace carom::test

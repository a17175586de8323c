// SPDX-License-Identifier: BSL-1.0
#include "actors/restart_backoff.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace carom::test {
namespace {

using actors::restart_backoff;

constexpr std::int64_t for_ever = INT64_MAX;

TEST(RestartBackoff, WithoutAnInitialWaitThereIsNone) {
  restart_backoff backoff({.initial_ns = 0, .max_ns = 100}, 1);
  for (int i = 0; i < 100; ++i) backoff.died(i);
  EXPECT_LE(backoff.start_at_ns(), 0);
}

TEST(RestartBackoff, EachDeathOfASeriesIsWaitedForLongerUpToTheMost) {
  restart_backoff backoff(
      {.initial_ns = 10, .multiplier = 2, .max_ns = 35, .reset_after_ns = 1'000}, 1);
  for (const std::int64_t wait : {10, 20, 35, 35}) {
    backoff.died(100);
    EXPECT_EQ(backoff.start_at_ns(), 100 + wait);
  }
  backoff.died(1'100);
  EXPECT_EQ(backoff.start_at_ns(), 1'110) << "a new series";
}

TEST(RestartBackoff, ChanceMakesItShorterOnly) {
  restart_backoff backoff(
      {.initial_ns = 1'000, .multiplier = 1, .max_ns = 1'000, .reset_after_ns = 1, .jitter = 1}, 7);
  for (int i = 0; i < 1'000; ++i) {
    backoff.died(5);
    EXPECT_GE(backoff.start_at_ns(), 5);
    EXPECT_LE(backoff.start_at_ns(), 1'005);
  }
}

TEST(RestartBackoff, AMostWithoutEndIsReachedAndNotPassed) {
  restart_backoff backoff(
      {.initial_ns = 1, .multiplier = 1'000, .max_ns = for_ever, .reset_after_ns = for_ever}, 1);
  std::int64_t before = 0;
  for (int i = 0; i < 100; ++i) {
    backoff.died(1'000);
    EXPECT_GE(backoff.start_at_ns(), before) << "death " << i;
    before = backoff.start_at_ns();
  }
  EXPECT_EQ(before, for_ever);
}

TEST(RestartBackoff, AWaitWithoutEndIsOne) {
  for (const double multiplier : {1.0, 2.0, std::numeric_limits<double>::infinity()})
    for (const double jitter : {0.0, 0.1, 1.0}) {
      restart_backoff backoff({.initial_ns = for_ever,
                               .multiplier = multiplier,
                               .max_ns = for_ever,
                               .reset_after_ns = 0,
                               .jitter = jitter},
                              3);
      for (int i = 0; i < 100; ++i) {
        backoff.died(1'000'000'000);
        EXPECT_GE(backoff.start_at_ns(), 1'000'000'000);
        if (jitter == 0) {
          EXPECT_EQ(backoff.start_at_ns(), for_ever);
        }
      }
    }
}

}  // namespace
}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#include "actors/restart_intensity.hpp"

#include <gtest/gtest.h>

#include "tests/actors/billiard_restart_state.hpp"
#include "tests/actors/dice.hpp"

namespace carom::test {
namespace {

using actors::restart_intensity;

TEST(RestartIntensity, AllowsSoManyDeathsAndNoMore) {
  restart_intensity deaths(3, 100);
  EXPECT_TRUE(deaths.step(1));
  EXPECT_TRUE(deaths.step(2));
  EXPECT_TRUE(deaths.step(3));
  EXPECT_FALSE(deaths.step(4));
}

TEST(RestartIntensity, CountsAnewOnceThePeriodIsOver) {
  restart_intensity deaths(2, 100);
  EXPECT_TRUE(deaths.step(0));
  EXPECT_TRUE(deaths.step(99));
  EXPECT_TRUE(deaths.step(100));
  EXPECT_EQ(deaths.count(), 1u);
}

TEST(RestartIntensity, ThePeriodBeginsWithTheFirstDeathNotWithTheClock) {
  restart_intensity deaths(1, 100);
  EXPECT_TRUE(deaths.step(1'000));
  EXPECT_FALSE(deaths.step(1'099));
}

TEST(RestartIntensity, AClockThatStartsAtZeroIsAClock) {
  restart_intensity deaths(1, 100);
  EXPECT_TRUE(deaths.step(0));
  EXPECT_FALSE(deaths.step(50));
}

TEST(RestartIntensity, AnAcceptedTaskForgivesAllDeathsSoFar) {
  restart_intensity deaths(1, 100);
  EXPECT_TRUE(deaths.step(1));
  deaths.accepted();
  EXPECT_EQ(deaths.count(), 0u);
  EXPECT_TRUE(deaths.step(2));
  EXPECT_FALSE(deaths.step(3));
}

TEST(RestartIntensity, AcceptingDoesNotMoveThePeriod) {
  restart_intensity deaths(1, 100);
  EXPECT_TRUE(deaths.step(0));
  deaths.accepted();
  EXPECT_TRUE(deaths.step(60));
  EXPECT_TRUE(deaths.step(100)) << "the period began at 0";
}

TEST(RestartIntensity, TheDeathThatIsOneTooManyIsNotCountedItself) {
  restart_intensity deaths(2, 100);
  EXPECT_TRUE(deaths.step(1));
  EXPECT_TRUE(deaths.step(2));
  EXPECT_FALSE(deaths.step(3));
  EXPECT_EQ(deaths.count(), 0u);
  EXPECT_TRUE(deaths.step(4));
}

TEST(RestartIntensity, ZeroAllowsNoDeathAtAll) {
  restart_intensity deaths(0, 100);
  EXPECT_FALSE(deaths.step(1));
  deaths.accepted();
  EXPECT_FALSE(deaths.step(1'000)) << "in any period";
  EXPECT_EQ(deaths.count(), 0u);
}

TEST(RestartIntensity, APeriodWithoutEndIsNone) {
  restart_intensity deaths(1, INT64_MAX);
  EXPECT_TRUE(deaths.step(0));
  EXPECT_FALSE(deaths.step(INT64_MAX - 1));
}

TEST(RestartIntensity, IsBilliardsRestartStateStepByStep) {
  for (std::uint64_t seed = 1; seed <= 2'000; ++seed) {
    dice chance(seed);
    const auto most = chance.one_of({1u, 2u, 5u, 100u});  // with 0 they differ
    const auto period = static_cast<std::int64_t>(1 + chance.below(200));
    const std::uint64_t pace = chance.one_of({2u, 20u, 300u});
    restart_intensity ours(most, period);
    billiard_restart_state billiards{most, period};
    std::int64_t now = 0;
    for (int step = 0; step < 200; ++step) {
      if (chance.chance(10)) {
        ours.accepted();
        billiards.ack();
      }
      now += static_cast<std::int64_t>(chance.below(pace));
      ASSERT_EQ(ours.step(now), billiards.step(now)) << "seed " << seed << ", step " << step;
      ASSERT_EQ(ours.count(), billiards.R) << "seed " << seed << ", step " << step;
    }
  }
}

}  // namespace
}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#include "actors/start_pause.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace carom::test {
namespace {

using actors::start_pause;

constexpr std::int64_t ms = 1'000'000, second = 1'000 * ms;

TEST(StartPause, EachFailureIsFollowedByALongerPauseUpToASecond) {
  start_pause pause(10 * second);
  std::int64_t now = 5 * second;
  for (std::int64_t expected = ms; expected < second; expected *= 2) {
    EXPECT_TRUE(pause.failed(now, true, false));
    ASSERT_EQ(pause.start_at_ns(), now + expected);
    now = pause.start_at_ns();
  }
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(pause.failed(now, true, false)) << "as long as somebody works";
    ASSERT_EQ(pause.start_at_ns(), now + second);
    now = pause.start_at_ns();
  }
}

TEST(StartPause, SeveralFailuresOfOneMomentAreOne) {
  start_pause pause(second);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(pause.failed(7, false, false));
  EXPECT_EQ(pause.start_at_ns(), 7 + ms);
  EXPECT_EQ(pause.tries(), 50u);
}

TEST(StartPause, GivesUpWhenNobodyHasBeenThereForLong) {
  start_pause pause(2 * second);
  EXPECT_TRUE(pause.failed(0, false, false));
  EXPECT_TRUE(pause.failed(2 * second - 1, false, false));
  EXPECT_FALSE(pause.failed(2 * second, false, false));
}

TEST(StartPause, PatienceBeginsAnewWhileSomebodyWorks) {
  start_pause pause(2 * second);
  EXPECT_TRUE(pause.failed(0, false, false));
  EXPECT_TRUE(pause.failed(3 * second, true, false));
  EXPECT_TRUE(pause.failed(9 * second, false, false))
      << "nobody works since now, as far as it knows";
  EXPECT_TRUE(pause.failed(10 * second, false, false));
  EXPECT_FALSE(pause.failed(11 * second, false, false));
}

TEST(StartPause, WhoIsOnTheWayIsWaitedFor) {
  start_pause pause(second);
  EXPECT_TRUE(pause.failed(0, false, true));
  EXPECT_TRUE(pause.failed(9 * second, false, true));
  EXPECT_FALSE(pause.failed(9 * second, false, false)) << "but that is nobody who works";
}

TEST(StartPause, ASuccessEndsIt) {
  start_pause pause(second);
  for (int i = 0; i < 5; ++i) pause.failed(i * second / 10, false, false);
  pause.succeeded();
  EXPECT_LT(pause.start_at_ns(), 0);
  EXPECT_EQ(pause.tries(), 0u);
  EXPECT_TRUE(pause.failed(100 * second, false, false)) << "and its patience is whole again";
  EXPECT_EQ(pause.start_at_ns(), 100 * second + ms);
}

TEST(StartPause, PatienceWithoutEndOrWithNone) {
  start_pause endless(INT64_MAX);
  EXPECT_TRUE(endless.failed(0, false, false));
  EXPECT_TRUE(endless.failed(INT64_MAX - 1, false, false));
  EXPECT_EQ(endless.start_at_ns(), INT64_MAX);
  start_pause none(1);
  EXPECT_TRUE(none.failed(0, false, false));
  EXPECT_FALSE(none.failed(1, false, false));
}

}  // namespace
}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#include "actors/autoscaler.hpp"

#include <gtest/gtest.h>

namespace carom::test {
namespace {

using actors::autoscaler;

TEST(Autoscaler, GrowsByOneWhileTasksWaitAndNobodyIdles) {
  autoscaler scaling({.min = 1, .max = 3, .idle_ns = 100});
  EXPECT_EQ(scaling.look(1, 5, 0, 0, 1, 0), 2u);
  EXPECT_EQ(scaling.look(2, 5, 0, 0, 1, 1), 2u) << "who was asked for is not there yet";
  EXPECT_EQ(scaling.look(2, 5, 0, 0, 2, 2), 3u);
  EXPECT_EQ(scaling.look(3, 5, 0, 0, 3, 3), 3u) << "no more than the rule allows";
}

TEST(Autoscaler, TasksBehindOthersAtAWorkerWaitToo) {
  autoscaler scaling({.min = 1, .max = 4, .idle_ns = 100});
  EXPECT_EQ(scaling.look(1, 0, 3, 0, 1, 0), 2u);
  EXPECT_EQ(scaling.look(2, 0, 2, 1, 2, 1), 2u) << "who idles is about to take one";
  EXPECT_EQ(scaling.look(2, 0, 0, 0, 2, 2), 2u) << "each has one and runs it";
}

TEST(Autoscaler, TasksBehindOthersKeepNobodyWhoIdles) {
  autoscaler scaling({.min = 1, .max = 4, .idle_ns = 100});
  EXPECT_EQ(scaling.look(3, 0, 2, 1, 3, 0), 3u);
  EXPECT_EQ(scaling.look(3, 0, 2, 1, 3, 100), 2u);
}

TEST(Autoscaler, ShrinksWhenSomebodyHasIdledAllTheTime) {
  autoscaler scaling({.min = 2, .max = 4, .idle_ns = 100});
  EXPECT_EQ(scaling.look(4, 0, 0, 1, 4, 0), 4u);
  EXPECT_EQ(scaling.look(4, 1, 0, 1, 4, 90), 4u) << "a task waited: it begins anew";
  EXPECT_EQ(scaling.look(4, 0, 0, 1, 4, 110), 4u);
  EXPECT_EQ(scaling.look(4, 0, 0, 1, 4, 210), 3u);
  EXPECT_EQ(scaling.look(3, 0, 0, 1, 3, 310), 2u);
  EXPECT_EQ(scaling.look(2, 0, 0, 2, 2, 1'000), 2u) << "no less than the rule allows";
}

TEST(Autoscaler, AnIdleTimeWithoutEndShrinksNever) {
  autoscaler scaling({.min = 1, .max = 4, .idle_ns = INT64_MAX});
  EXPECT_EQ(scaling.look(4, 0, 0, 4, 4, 0), 4u);
  EXPECT_EQ(scaling.look(4, 0, 0, 4, 4, INT64_MAX - 1), 4u);
}

}  // namespace
}  // namespace carom::test

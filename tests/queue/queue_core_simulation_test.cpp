// SPDX-License-Identifier: BSL-1.0
// The rules of a queue under seeded random schedules: clients that put, take, wait, give up, stop
// and die at any moment; no process, no clock.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>

#include "tests/queue/queue_simulation.hpp"

namespace {

using carom::test::queue_simulation;

std::uint64_t seeds(std::uint64_t few, std::uint64_t many) {
  return std::getenv("CAROM_FULL") ? many : few;
}

TEST(QueueCore, whatever_clients_do_nothing_is_lost_doubled_or_too_much) {
  for (std::uint64_t seed = 1; seed <= seeds(1'000, 50'000); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    constexpr std::uint64_t sizes[] = {0, 1, 2, 5, 40};
    queue_simulation(seed, sizes[seed % 5], true).run(400);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(QueueCore, without_harm_the_same) {
  for (std::uint64_t seed = 1; seed <= seeds(1'000, 50'000); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    constexpr std::uint64_t sizes[] = {0, 1, 2, 5, 40};
    queue_simulation(seed, sizes[seed % 5], false).run(400);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace

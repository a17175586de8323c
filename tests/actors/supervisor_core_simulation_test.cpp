// SPDX-License-Identifier: BSL-1.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/actors/simulation.hpp"

// CAROM_SEED=<n> runs one schedule again, CAROM_FULL=1 a million of them.
namespace carom::test {
namespace {

void add(simulation::tally& all, const simulation::tally& one) {
  all.tasks += one.tasks;
  all.finished += one.finished;
  all.lost += one.lost;
  all.ended_with_pool += one.ended_with_pool;
  all.unsendable += one.unsendable;
  all.stolen += one.stolen;
  all.revoked_too_late += one.revoked_too_late;
  all.refused += one.refused;
  all.deaths += one.deaths;
  all.given_up += one.given_up;
  all.run_again += one.run_again;
}

TEST(SupervisorCore, KeepsItsPromisesUnderAnySchedule) {
  const char* const chosen = std::getenv("CAROM_SEED");
  const std::uint64_t first = chosen ? std::stoull(chosen) : 1;
  const std::uint64_t count = chosen ? 1 : std::getenv("CAROM_FULL") ? 1'000'000 : 20'000;
  simulation::tally all;
  for (std::uint64_t seed = first; seed != first + count; ++seed) {
    simulation schedule(seed);
    ASSERT_NO_THROW(schedule.run()) << "replay with CAROM_SEED=" << seed;
    add(all, schedule.seen());
  }
  EXPECT_EQ(all.tasks, all.finished + all.lost + all.ended_with_pool + all.unsendable);
  if (chosen) return;
  // Chance has been everywhere.
  for (const std::uint64_t met :
       {all.finished, all.lost, all.ended_with_pool, all.unsendable, all.stolen,
        all.revoked_too_late, all.refused, all.deaths, all.given_up, all.run_again})
    EXPECT_GE(met, count / 100);
}

}  // namespace
}  // namespace carom::test

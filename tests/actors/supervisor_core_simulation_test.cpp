// SPDX-License-Identifier: BSL-1.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/actors/schedules.hpp"

// CAROM_SEED=<n> runs one schedule again, CAROM_FULL=1 a million of them.
namespace carom::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t usual = 5'000, many = 100'000;  // each takes 20 times as long
#else
constexpr std::uint64_t usual = 200'000, many = 1'000'000;
#endif

TEST(SupervisorCore, KeepsItsPromisesUnderAnySchedule) {
  const char* const chosen = std::getenv("CAROM_SEED");
  const std::uint64_t first = chosen ? std::stoull(chosen) : 1;
  const std::uint64_t count = chosen ? 1 : std::getenv("CAROM_FULL") ? many : usual;
  const schedules all = run_schedules(first, count);
  ASSERT_FALSE(all.failed) << all.failed->what << "; replay with CAROM_SEED=" << all.failed->seed;
  EXPECT_EQ(all.seen[met::tasks], all.seen.ended());
  if (chosen) return;
  EXPECT_THAT(all.hardly_met(), testing::IsEmpty()) << "chance has been everywhere";
}

}  // namespace
}  // namespace carom::test

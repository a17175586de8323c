// SPDX-License-Identifier: BSL-1.0
// Processes are killed while they change values and arrays under the lock.
#include <gtest/gtest.h>

#include <algorithm>
#include <carom/shared.hpp>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "tests/shared/kills.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using namespace carom::test;

bool all_equal(std::span<const int> elements) {
  return std::ranges::all_of(elements, [&](int each) { return each == elements.front(); });
}

/// Counts all elements up; who finds them half changed, after a death, makes them equal again.
/// False if they are half changed without a word.
bool step(carom::array<int>& elements) {
  return elements.with([](std::span<int> all, bool damaged) {
    if (!damaged && !all_equal(all)) return false;
    const int next = all.front() + 1;
    for (int& each : all) each = next;
    return true;
  });
}

TEST_F(Parity, Shared_array_owners_are_killed) {
  seeded random;
  carom::array<int> elements(64);
  const auto worker = [&] {
    return forked([&] {
      while (step(elements)) {
      }
      return false;
    });
  };
  forked other = worker();
  int half_changed = 0;
  const int count = kills(300, 6000);
  for (int i = 0; i < count; ++i) {
    forked victim = worker();
    random.pause(500);
    victim.kill();
    ASSERT_TRUE(elements.get_lock().acquire(30s)) << "nobody hangs";
    half_changed += !all_equal(elements.span());
    elements.get_lock().release();
    ASSERT_TRUE(step(elements));
  }
  other.kill();
  ASSERT_TRUE(step(elements));
  EXPECT_TRUE(all_equal(elements.span()));
  RecordProperty("half_changed", half_changed);
}

TEST_F(Parity, Shared_value_killed_at_instructions_of_with) {
  carom::value<std::array<int, 2>> pair;
  int told = 0;
  const int done = kill_at_instructions(
      [&] { pair.with([](std::array<int, 2>& both) { ++both[0], ++both[1]; }); }, short_stride(),
      [&](std::uint64_t at) {
        ASSERT_TRUE(pair.get_lock().acquire(30s)) << at;
        pair.get_lock().release();
        pair.with([&](std::array<int, 2>& both, bool damaged) {
          ASSERT_TRUE(damaged || both[0] == both[1]) << at;
          told += damaged;
          both[1] = both[0];
        });
      });
  EXPECT_GT(done, 2);
  EXPECT_GE(told, 1);
}

TEST_F(Parity, Shared_array_killed_at_instructions_of_set) {
  carom::array<int> elements{1, 1, 1};
  int stayed = 0;
  const int done =
      kill_at_instructions([&] { elements.set(1, 2); }, short_stride(),
                           [&](std::uint64_t at) {
                             ASSERT_TRUE(elements.get_lock().acquire(30s)) << at;
                             elements.get_lock().release();
                             ASSERT_EQ(elements.get(0), 1);
                             ASSERT_EQ(elements.get(2), 1);
                             const int now = elements.get(1);
                             ASSERT_TRUE(now == 1 || now == 2) << now << " at " << at;
                             stayed += now == 1;
                             elements.with([](std::span<int> all, bool) { all[1] = 1; });
                             ASSERT_FALSE(elements.damaged());
                           });
  EXPECT_GT(done, 2);
  EXPECT_GT(stayed, 0);
  EXPECT_LE(stayed, done) << "the last one ran to its end";
}

TEST_F(Parity, Shared_array_killed_at_instructions_of_assign) {
  carom::array<int> elements(40);
  std::vector<int> next(40, 0);
  int told = 0;
  const int done = kill_at_instructions(
      [&] {
        std::ranges::fill(next, elements.get(0) + 1);
        elements.assign(0, next);
      },
      short_stride(),
      [&](std::uint64_t at) {
        ASSERT_TRUE(elements.get_lock().acquire(30s)) << at;
        elements.get_lock().release();
        elements.with([&](std::span<int> all, bool damaged) {
          ASSERT_TRUE(damaged || all_equal(all)) << "half assigned without a word, at " << at;
          told += damaged;
          std::ranges::fill(all, all.front());
        });
      });
  EXPECT_GT(done, 2);
  EXPECT_GE(told, 1);
}

TEST_F(Parity, Shared_value_counts_what_was_counted_whole) {
  seeded random;
  carom::value<long> counter;
  carom::raw_array<std::atomic<long>> done(2);
  for (int i = 0; i < kills(100, 2000); ++i) {
    forked victim([&] {
      for (;;) {
        counter.with([](long& n) { ++n; });
        ++done[0];
      }
      return false;
    });
    random.pause(300);
    victim.kill();
    // One step may have been counted by one of the two only.
    const long difference = counter.get() - done[0];
    ASSERT_GE(difference, 0);
    ASSERT_LE(difference, 1);
    done[0] = counter.get();
  }
}

}  // namespace

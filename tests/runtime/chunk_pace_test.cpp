// SPDX-License-Identifier: BSL-1.0
#include "runtime/chunk_pace.hpp"

#include <gtest/gtest.h>

namespace carom::runtime {
namespace {

constexpr std::int64_t microsecond = 1'000, millisecond = 1'000'000;

/// A chunk that runs by a clock of its own.
struct chunk {
  std::int64_t now = 1'000'000'000;
  chunk_pace pace{now};
  std::uint64_t done = 0;
  std::uint64_t published = 0;
  std::uint64_t looks = 0;
  std::int64_t published_at = now;
  std::int64_t longest_silence = 0;

  /// Runs `items` more items; each takes so long and leaves so many bytes.
  void run(std::uint64_t items, std::int64_t each_ns, std::uint64_t each_bytes) {
    for (const std::uint64_t end = done + items; done < end;) {
      const auto next = pace.next(done - published, (done - published) * each_bytes, now);
      ++looks;
      if (next.publish) {
        longest_silence = std::max(longest_silence, now - published_at);
        published = done;
        published_at = now;
      }
      ASSERT_GE(next.items, 1u);
      const std::uint64_t batch = std::min(next.items, end - done);
      done += batch;
      now += static_cast<std::int64_t>(batch) * each_ns;
    }
    longest_silence = std::max(longest_silence, now - published_at);
  }
};

TEST(ChunkPace, BeginsWithAnItemOrTwo) {
  chunk_pace pace(0);
  EXPECT_LE(pace.next(0, 0, 0).items, 2u);
}

TEST(ChunkPace, PublishesNothingWhereThereIsNothing) {
  chunk_pace pace(0);
  EXPECT_FALSE(pace.next(0, 0, 3'600'000 * millisecond).publish);
}

TEST(ChunkPace, LongItemsArePublishedOneByOne) {
  chunk items;
  items.run(100, 10 * millisecond, 8);
  EXPECT_GE(items.published, 98u);
  EXPECT_LE(items.longest_silence, 20 * millisecond);
}

TEST(ChunkPace, WhateverAnItemTakesResultsComeWithinAboutAMillisecond) {
  for (const std::int64_t each : {5L, 50L, 700L, 5 * microsecond, 60 * microsecond}) {
    chunk items;
    items.run(static_cast<std::uint64_t>(50 * millisecond / each), each, 0);
    EXPECT_LE(items.longest_silence, 3 * millisecond / 2) << each;
  }
}

TEST(ChunkPace, TheClockIsReadRarelyForShortItems) {
  chunk items;
  items.run(10'000'000, 10, 0);
  EXPECT_LE(items.looks, 10'000'000u / 50);
}

TEST(ChunkPace, ManyBytesArePublishedAtOnce) {
  chunk_pace pace(0);
  EXPECT_FALSE(pace.next(1, 16 * 1024 - 1, 1).publish);
  EXPECT_TRUE(pace.next(1, 16 * 1024, 2).publish);
}

TEST(ChunkPace, ABatchMakesAboutOneFrame) {
  chunk items;
  items.run(100'000, 1, 1'000);
  const auto next = items.pace.next(10, 10'000, items.now);
  EXPECT_LE(next.items, 16u);
}

TEST(ChunkPace, AnItemLargerThanAFrameRunsAlone) {
  chunk_pace pace(0);
  EXPECT_EQ(pace.next(1, 1 << 20, 1).items, 1u);
}

TEST(ChunkPace, ABackwardClockStopsNobody) {
  chunk_pace pace(1'000 * millisecond);
  for (std::int64_t now = 1'000 * millisecond; now > 0; now -= 10 * millisecond)
    ASSERT_GE(pace.next(1, 8, now).items, 1u);
}

TEST(ChunkPace, ItemsThatBecomeSlowAreNotHeldBackForSeconds) {
  chunk items;
  items.run(1'000'000, 10, 8);
  items.run(2'000, millisecond, 8);
  EXPECT_LE(items.longest_silence, 300 * millisecond);
}

}  // namespace
}  // namespace carom::runtime

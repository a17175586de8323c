// SPDX-License-Identifier: BSL-1.0
#include "runtime/admission.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace carom::runtime {
namespace {

TEST(Admission, KnowsWhetherThereIsALimit) {
  EXPECT_FALSE(admission(std::nullopt, std::nullopt).limited());
  EXPECT_TRUE(admission(1, std::nullopt).limited());
  EXPECT_TRUE(admission(std::nullopt, 1).limited());
}

TEST(Admission, LetsSoManyIn) {
  admission room(2, std::nullopt);
  EXPECT_TRUE(room.try_enter(1'000'000));
  EXPECT_TRUE(room.try_enter(0));
  EXPECT_FALSE(room.try_enter(0));
  room.leave(0);
  EXPECT_TRUE(room.try_enter(0));
}

TEST(Admission, LetsSoManyBytesIn) {
  admission room(std::nullopt, 100);
  EXPECT_TRUE(room.try_enter(60));
  EXPECT_FALSE(room.try_enter(41));
  EXPECT_TRUE(room.try_enter(40));
  room.leave(60);
  EXPECT_TRUE(room.try_enter(60));
}

TEST(Admission, WhatIsLargerThanTheLimitPassesAlone) {
  admission room(std::nullopt, 100);
  EXPECT_TRUE(room.try_enter(1'000));
  EXPECT_FALSE(room.try_enter(1));
  room.leave(1'000);
  EXPECT_TRUE(room.try_enter(1));
  EXPECT_FALSE(room.try_enter(1'000));
}

TEST(Admission, BothLimitsHold) {
  admission room(2, 100);
  EXPECT_TRUE(room.try_enter(10));
  EXPECT_FALSE(room.try_enter(91));
  EXPECT_TRUE(room.try_enter(90));
  EXPECT_FALSE(room.try_enter(0));
}

TEST(Admission, WaitsUntilSomebodyLeaves) {
  admission room(1, std::nullopt);
  ASSERT_TRUE(room.try_enter(0));
  std::atomic<bool> left{false};
  std::thread waiter([&] {
    EXPECT_TRUE(room.wait_to_enter(0));
    EXPECT_TRUE(left);
  });
  left = true;
  room.leave(0);
  waiter.join();
  EXPECT_FALSE(room.try_enter(0)) << "the waiter is in";
}

TEST(Admission, OneThatLeavesMakesRoomForAllThatFit) {
  admission room(std::nullopt, 90);
  ASSERT_TRUE(room.try_enter(90));
  std::vector<std::thread> waiters;
  for (int i = 0; i < 3; ++i) waiters.emplace_back([&] { EXPECT_TRUE(room.wait_to_enter(30)); });
  room.leave(90);
  for (auto& one : waiters) one.join();
  EXPECT_FALSE(room.try_enter(1));
}

TEST(Admission, TheEndWakesAllWhoWaitAndLetsNobodyWait) {
  admission room(1, std::nullopt);
  ASSERT_TRUE(room.try_enter(0));
  std::vector<std::thread> waiters;
  for (int i = 0; i < 3; ++i) waiters.emplace_back([&] { EXPECT_FALSE(room.wait_to_enter(0)); });
  room.end();
  for (auto& one : waiters) one.join();
  EXPECT_FALSE(room.wait_to_enter(0));
}

TEST(Admission, WaitsNoLongerThanItMay) {
  admission room(1, std::nullopt);
  using entry = admission::entry;
  EXPECT_EQ(room.wait_to_enter(0, std::chrono::nanoseconds(0)), entry::in);
  EXPECT_EQ(room.wait_to_enter(0, std::chrono::milliseconds(1)), entry::late);
  room.leave(0);
  EXPECT_EQ(room.wait_to_enter(0, std::chrono::hours(1)), entry::in);
  EXPECT_FALSE(room.try_enter(0)) << "who was late is not in";
  room.end();
  EXPECT_EQ(room.wait_to_enter(0, std::chrono::hours(1)), entry::ended);
}

TEST(Admission, ManyThreadsAreNeverMoreThanTheLimit) {
  admission room(3, std::nullopt);
  std::atomic<int> inside{0}, most{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 2'000; ++i) {
        ASSERT_TRUE(room.wait_to_enter(1));
        const int now = ++inside;
        for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
        }
        --inside;
        room.leave(1);
      }
    });
  for (auto& one : threads) one.join();
  EXPECT_LE(most, 3);
}

}  // namespace
}  // namespace carom::runtime

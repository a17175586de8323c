// SPDX-License-Identifier: BSL-1.0
// How a call on a simple_queue waits.
#include "runtime/item_waits.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace {

using namespace carom::runtime;
using namespace std::chrono_literals;

/// A large item waits for room while small ones come and go.
TEST(ItemWaits, keep_their_time_though_the_place_moves_all_the_time) {
  std::atomic<std::uint64_t> position{0};
  std::atomic<std::uint32_t> sleepers{0};
  std::atomic<ring_state> state{ring_state::open};
  std::atomic<bool> stop{false};
  std::thread mover([&] {
    while (!stop) position.fetch_add(1);
  });
  const moving_place place{position, sleepers};
  const auto began = std::chrono::steady_clock::now();
  waiter call(5ms);
  bool in_time = true;
  while (in_time && std::chrono::steady_clock::now() < began + 20s)
    in_time = call.wait(place, position.load(), state);
  EXPECT_FALSE(in_time) << "it would go on for ever";
  EXPECT_GE(std::chrono::steady_clock::now(), began + 5ms);
  stop = true;
  mover.join();
}

TEST(ItemWaits, a_mere_look_never_waits) {
  std::atomic<std::uint64_t> position{0};
  std::atomic<std::uint32_t> sleepers{0};
  std::atomic<ring_state> state{ring_state::open};
  waiter call(0ns);
  EXPECT_FALSE(call.wait({position, sleepers}, 0, state));
  EXPECT_EQ(sleepers.load(), 0u);
}

}  // namespace

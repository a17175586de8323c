// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"

namespace carom::test {

/// How often a test kills: `few` in a normal run.
inline int kills(int few, int full) { return std::getenv("CAROM_FULL") ? full : few; }

/// Random numbers whose seed is printed, and can be given by CAROM_SEED.
class seeded {
 public:
  seeded() : seed_(chosen()), engine_(seed_) { std::cout << "CAROM_SEED=" << seed_ << std::endl; }
  std::uint64_t below(std::uint64_t bound) { return engine_() % bound; }
  /// Lets a child run for up to so many microseconds; spins, since a sleep is never so short.
  void pause(std::uint64_t most_us);

 private:
  static std::uint64_t chosen() {
    const char* const given = std::getenv("CAROM_SEED");
    return given ? std::stoull(given) : std::random_device{}();
  }
  std::uint64_t seed_;
  std::mt19937_64 engine_;
};

/// Instructions between two kills inside of a short operation: each one in a full run. Under a
/// sanitizer there are many more of them, which costs their square.
inline std::uint64_t short_stride() {
  if (std::getenv("CAROM_FULL")) return 1;
  return slowness > 1 ? 307 : 7;
}

/// Kills a forked copy that runs `body` before its first instruction, before a later one, and so on
/// until it ends by itself, and calls `check(instruction)` after each. From one to the next there
/// are `stride` instructions on average; 1 is every single one. How many kills that were.
template <class Body, class Check>
int kill_at_instructions(const Body& body, std::uint64_t stride, const Check& check) {
  seeded random;
  int done = 0;
  for (std::uint64_t at = 0;; at += 1 + random.below(2 * stride - 1), ++done) {
    const bool reached = killed_at_instruction(body, static_cast<long>(at));
    check(at);
    if (!reached || testing::Test::HasFatalFailure()) return done;
  }
}

}  // namespace carom::test

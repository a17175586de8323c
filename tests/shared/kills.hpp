// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

#include "tests/shared/forked.hpp"

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

/// Kills a forked copy that runs `body` before each of its first instructions in turn, in steps of
/// `stride` (all that there are, at stride 1), and calls `check(instruction)` after each. How many
/// kills that were.
template <class Body, class Check>
int kill_at_each_instruction(const Body& body, long stride, const Check& check) {
  int done = 0;
  for (long at = 0;; at += stride, ++done) {
    const bool reached = killed_at_instruction(body, at);
    check(at);
    if (!reached) return done;
  }
}

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#include "tests/sync/experiment.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>

#include "tests/support/board.hpp"
#include "tests/support/forked.hpp"
#include "tests/sync/victims.hpp"

namespace carom::test {

void killed_at_many_instructions(const experiment& one) {
  const std::uint64_t seed = chosen_seed();
  SCOPED_TRACE("CAROM_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> exponent(0, std::log(4000));
  int came_so_far = 0;
  for (int i = kills(40, 500); i > 0 && !testing::Test::HasFailure(); --i) {
    const long instruction = std::lround(std::exp(exponent(random)));
    SCOPED_TRACE("before instruction " + std::to_string(instruction));
    board::reset();
    one.prepare();
    came_so_far += killed_at_instruction(one.body, instruction);
    one.check();
  }
  EXPECT_GT(came_so_far, 0);
}

}  // namespace carom::test

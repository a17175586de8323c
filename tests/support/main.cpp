// SPDX-License-Identifier: BSL-1.0
// The main of tests that make pools: `carom::init` comes first, but for what its processes inherit.
#include <gtest/gtest.h>

#include <carom/init.hpp>

#include "tests/support/board.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/processes.hpp"

int main(int argc, char** argv) {
  using namespace carom::test;
  board::open(board_of(argc, argv));
  found_family();
  const helper_program* const helper = asked_for(argc, argv);
  if (!helper || wants_init(*helper)) carom::init(argc, argv);
  if (helper) return run_helper(*helper, argc, argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

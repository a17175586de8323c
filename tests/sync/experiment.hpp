// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>

namespace carom::test {

/// What is done to a process that is killed before one instruction of what it does.
struct experiment {
  std::function<void()> prepare = [] {};
  std::function<void()> body;   // killed somewhere inside
  std::function<void()> check;  // of what is left
};

/// Does it many times, each time before another instruction: the first ones more often, and some
/// far behind the end. With CAROM_FULL in the environment hundreds of times; CAROM_SEED chooses as
/// before.
void killed_at_many_instructions(const experiment& one);

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#include "tests/shared/kills.hpp"

#include <chrono>

namespace carom::test {

void seeded::pause(std::uint64_t most_us) {
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::microseconds(below(most_us + 1));
  while (std::chrono::steady_clock::now() < until) {
  }
}

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/actors/tally.hpp"

namespace carom::test {

/// Many schedules, up to the first that breaks a promise.
struct schedules {
  std::uint64_t ran = 0;
  tally seen{};
  struct failure {
    std::uint64_t seed;
    std::string what;
  };
  std::optional<failure> failed{};

  /// What chance should have met and has hardly.
  std::vector<std::string> hardly_met() const;
};

schedules run_schedules(std::uint64_t first, std::uint64_t count);

}  // namespace carom::test

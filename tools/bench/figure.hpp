// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "statistics.hpp"

namespace bench {

/// What values are in; JSON has exactly these, the table scales them for reading.
enum class unit { microseconds, items_per_second, gigabytes_per_second, bytes, wakeups_per_second };

/// Says of a value, or of a ratio, whether it is good enough.
struct target {
  enum class sense { at_most, at_least };
  sense direction;
  double bound;
  std::string text;

  bool met(double value) const {
    return direction == sense::at_most ? value <= bound : value >= bound;
  }
};

/// For ratios: carom's value over the peer's.
target at_most_times(double bound);
target at_least_times(double bound);
/// For times, where a small ratio is good: the peer takes `factor` times as long.
target times_faster(double factor);
/// For values that have a bound of their own.
target at_most(double bound, unit measure);

/// A peer or a limit beside carom, measured in the same run.
struct comparison {
  std::string peer;
  samples values;
  std::optional<target> goal{};  // for the ratio
  std::string missing{};         // why there are no values
};

/// One thing measured: carom's values and what they are compared with.
struct figure {
  std::string name;
  unit measure;
  samples values;
  std::optional<target> goal{};  // for the value
  std::vector<comparison> comparisons{};
};

/// carom's median over the peer's; nothing if either is missing.
std::optional<double> ratio(const figure& measured, const comparison& against);

const char* name_of(unit measure);
/// A value with its unit, scaled for reading: "38.1 µs", "2.5 MiB".
std::string readable(double value, unit measure);

}  // namespace bench

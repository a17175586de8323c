// SPDX-License-Identifier: BSL-1.0
#include "figure.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <span>

namespace bench {

namespace {

std::string three_digits(double value) {
  char text[32];
  const double size = std::abs(value);
  const int decimals = size == 0 || size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

struct scale {
  double from;
  const char* name;
};

std::string scaled(double value, std::span<const scale> scales) {
  const scale* chosen = &scales.front();
  for (const scale& each : scales)
    if (std::abs(value) >= each.from) chosen = &each;
  return three_digits(value / chosen->from) + " " + chosen->name;
}

}  // namespace

target at_most_times(double bound) {
  return {target::sense::at_most, bound, "≤ " + three_digits(bound) + " ×"};
}

target at_least_times(double bound) {
  return {target::sense::at_least, bound, "≥ " + three_digits(bound) + " ×"};
}

target times_faster(double factor) {
  return {target::sense::at_most, 1 / factor, "≥ " + three_digits(factor) + " × faster"};
}

target at_most(double bound, unit measure) {
  return {target::sense::at_most, bound, "≤ " + readable(bound, measure)};
}

std::optional<double> ratio(const figure& measured, const comparison& against) {
  if (measured.values.empty() || against.values.empty()) return std::nullopt;
  const double peer = against.values.median();
  if (peer == 0) return std::nullopt;
  return measured.values.median() / peer;
}

const char* name_of(unit measure) {
  switch (measure) {
    case unit::microseconds: return "µs";
    case unit::items_per_second: return "items/s";
    case unit::gigabytes_per_second: return "GB/s";
    case unit::bytes: return "bytes";
    case unit::wakeups_per_second: return "wakeups/s";
  }
  return "";
}

std::string readable(double value, unit measure) {
  static constexpr std::array times{scale{1e-3, "ns"}, scale{1, "µs"}, scale{1e3, "ms"},
                                    scale{1e6, "s"}};
  static constexpr std::array rates{scale{1, "/s"}, scale{1e3, "k/s"}, scale{1e6, "M/s"}};
  static constexpr std::array sizes{scale{1, "B"}, scale{1024, "KiB"}, scale{1048576, "MiB"}};
  switch (measure) {
    case unit::microseconds: return scaled(value, times);
    case unit::items_per_second: return scaled(value, rates);
    case unit::bytes: return scaled(value, sizes);
    default: return three_digits(value) + " " + name_of(measure);
  }
}

}  // namespace bench

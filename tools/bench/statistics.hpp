// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <vector>

namespace bench {

/// The repetitions of one measurement.
class samples {
 public:
  void add(double value) { values_.push_back(value); }
  bool empty() const noexcept { return values_.empty(); }
  std::size_t size() const noexcept { return values_.size(); }

  double median() const { return percentile(50); }
  double min() const { return percentile(0); }
  double max() const { return percentile(100); }
  /// Interpolated between the two nearest samples; 0 without samples.
  double percentile(double percent) const;

 private:
  std::vector<double> values_;
};

/// Time since it was made, in microseconds.
class stopwatch {
 public:
  double microseconds() const {
    return std::chrono::duration<double, std::micro>(clock::now() - start_).count();
  }
  double seconds() const { return microseconds() / 1e6; }

 private:
  using clock = std::chrono::steady_clock;
  clock::time_point start_ = clock::now();
};

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace carom::actors {

/// A token bucket, kept as the time at which it is full again (the generic cell rate algorithm,
/// ITU-T I.371). Pure: `now_ns` is whatever clock the caller keeps.
class rate_limiter {
 public:
  /// A token each `interval_ns`, at most `burst` saved up. No limit if `interval_ns` is 0.
  rate_limiter(std::int64_t interval_ns, std::uint32_t burst)
      : interval_ns_(interval_ns), saved_ns_(wide{interval_ns} * (std::max(burst, 1u) - 1)) {}

  bool limited() const { return interval_ns_ != 0; }
  bool has_token(std::int64_t now_ns) const { return !limited() || now_ns >= full_ns_ - saved_ns_; }
  void take(std::int64_t now_ns) {
    if (limited()) full_ns_ = std::max<wide>(full_ns_, now_ns) + interval_ns_;
  }
  void give_back() { full_ns_ -= interval_ns_; }
  /// When there is one; the farthest moment there is where that is farther.
  std::int64_t next_ns() const {
    return static_cast<std::int64_t>(std::clamp<wide>(full_ns_ - saved_ns_, INT64_MIN, INT64_MAX));
  }

 private:
  // A burst of many tokens that come rarely is worth more nanoseconds than 64 bits count.
  __extension__ using wide = __int128;

  std::int64_t interval_ns_;
  wide saved_ns_;
  wide full_ns_ = INT64_MIN;
};

}  // namespace carom::actors

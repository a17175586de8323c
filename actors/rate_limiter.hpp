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
      : interval_ns_(interval_ns), saved_ns_(interval_ns * (std::max(burst, 1u) - 1)) {}

  bool limited() const { return interval_ns_ != 0; }
  bool has_token(std::int64_t now_ns) const { return !limited() || now_ns >= next_ns(); }
  void take(std::int64_t now_ns) {
    if (limited()) full_ns_ = std::max(full_ns_, now_ns) + interval_ns_;
  }
  void give_back() { full_ns_ -= interval_ns_; }
  /// When there is one.
  std::int64_t next_ns() const { return full_ns_ - saved_ns_; }

 private:
  std::int64_t interval_ns_;
  std::int64_t saved_ns_;
  std::int64_t full_ns_ = INT64_MIN / 2;
};

}  // namespace carom::actors

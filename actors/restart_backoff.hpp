// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "actors/time_limits.hpp"

namespace carom::actors {

/// How long to wait after a death before the next start: longer each time, until nobody has died
/// for a while. Pure: `now_ns` is whatever clock the caller keeps.
class restart_backoff {
 public:
  struct rule {
    std::int64_t initial_ns = 0;  // 0: never wait
    double multiplier = 2;
    std::int64_t max_ns = 0;
    std::int64_t reset_after_ns = 0;
    double jitter = 0;  // share of a delay that chance may take off
  };

  restart_backoff(const rule& r, std::uint64_t seed) : rule_(r), random_(seed | 1) {}

  void died(std::int64_t now_ns) {
    if (rule_.initial_ns == 0) return;
    if (delay_ns_ == 0 || now_ns - died_ns_ >= rule_.reset_after_ns)
      delay_ns_ = rule_.initial_ns;
    else
      delay_ns_ = std::min(whole(static_cast<double>(delay_ns_) * rule_.multiplier), rule_.max_ns);
    died_ns_ = now_ns;
    start_at_ns_ = after_ns(
        now_ns, delay_ns_ - whole(static_cast<double>(delay_ns_) * rule_.jitter * chance()));
  }

  /// Nobody is started before.
  std::int64_t start_at_ns() const { return start_at_ns_; }

 private:
  static std::int64_t whole(double ns) {
    return ns < 0x1p63 ? static_cast<std::int64_t>(ns) : never_ns;
  }
  /// xorshift64*: [0, 1).
  double chance() {
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return static_cast<double>((random_ * 0x2545f4914f6cdd1du) >> 11) * 0x1p-53;
  }

  rule rule_;
  std::uint64_t random_;
  std::int64_t delay_ns_ = 0;
  std::int64_t died_ns_ = 0;
  std::int64_t start_at_ns_ = INT64_MIN;
};

}  // namespace carom::actors

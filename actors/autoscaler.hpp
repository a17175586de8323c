// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace carom::actors {

/// How many workers a pool should have: one more at each look while tasks wait and nobody idles,
/// one less once somebody has idled all the time for a while. Pure.
class autoscaler {
 public:
  struct rule {
    std::uint32_t min = 1;
    std::uint32_t max = 1;
    std::int64_t idle_ns = 0;
  };

  explicit autoscaler(const rule& r) : rule_(r) {}

  /// What the target should be from now on. Tasks wait in the queue, `pending`, or behind another
  /// one at a worker already, `behind`: those keep nobody who idles, since he is to take them.
  std::uint32_t look(std::uint32_t target, std::size_t pending, std::uint64_t behind,
                     std::uint32_t idle, std::uint32_t serving, std::int64_t now_ns) {
    if (idle == 0 || pending != 0) idle_since_.reset();
    if (pending + behind != 0 && idle == 0 && serving >= target)
      ++target;  // who was asked for before is there by now
    else if (idle != 0 && pending == 0) {
      if (!idle_since_) idle_since_ = now_ns;
      if (now_ns - *idle_since_ >= rule_.idle_ns && target > rule_.min) {
        --target;
        idle_since_ = now_ns;
      }
    }
    return std::clamp(target, rule_.min, rule_.max);
  }

 private:
  rule rule_;
  std::optional<std::int64_t> idle_since_;
};

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace carom::actors {

inline constexpr std::int64_t never_ns = INT64_MAX;

/// A moment that cannot overflow.
constexpr std::int64_t after_ns(std::int64_t from, std::int64_t by) {
  return by >= never_ns - std::max<std::int64_t>(from, 0) ? never_ns : from + by;
}

/// How long a task, or a map's item, may run. `never_ns`: for ever.
struct time_limits {
  std::int64_t soft_ns = never_ns;
  std::int64_t hard_ns = never_ns;

  bool any() const { return soft_ns != never_ns || hard_ns != never_ns; }
  std::int64_t first_ns() const { return std::min(soft_ns, hard_ns); }
};

/// What to do about a task that has run since `started_ns`. As in billiard the hard limit is looked
/// at first, and the soft one is passed once. Pure.
struct limit_verdict {
  enum class action { none, soft, hard } what = action::none;
  std::int64_t look_again_ns = never_ns;
};

constexpr limit_verdict judge(const time_limits& limits, std::int64_t started_ns, bool soft_passed,
                              std::int64_t now_ns) {
  using action = limit_verdict::action;
  const std::int64_t hard_at = after_ns(started_ns, limits.hard_ns);
  const std::int64_t soft_at = soft_passed ? never_ns : after_ns(started_ns, limits.soft_ns);
  if (now_ns >= hard_at) return {action::hard, never_ns};
  if (now_ns >= soft_at) return {action::soft, hard_at};
  return {action::none, std::min(soft_at, hard_at)};
}

}  // namespace carom::actors

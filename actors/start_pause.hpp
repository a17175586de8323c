// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "actors/time_limits.hpp"

namespace carom::actors {

/// What to do while the host has no means for another worker, no descriptor, no memory or no
/// process: to try again, each time after a longer pause. Pure: `now_ns` is whatever clock the
/// caller keeps.
class start_pause {
 public:
  static constexpr std::int64_t first_ns = 1'000'000;
  static constexpr std::int64_t longest_ns = 1'000'000'000;

  explicit start_pause(std::int64_t patience_ns) : patience_ns_(patience_ns) {}

  /// A worker could not be made. `anybody`: another one is ready to work, or works; `hope`: one is
  /// on its way. False if there has been neither for all the time that there is patience for.
  bool failed(std::int64_t now_ns, bool anybody, bool hope) {
    if (anybody)
      since_.reset();
    else if (!since_)
      since_ = now_ns;
    ++tries_;
    // Several that fail in one moment fail for one reason.
    if (now_ns >= start_at_ns_) {
      pause_ns_ = pause_ns_ == 0 ? first_ns : std::min(2 * pause_ns_, longest_ns);
      start_at_ns_ = after_ns(now_ns, pause_ns_);
    }
    return anybody || hope || now_ns - *since_ < patience_ns_;
  }
  /// A worker is ready.
  void succeeded() { *this = start_pause(patience_ns_); }

  /// Nobody is started before.
  std::int64_t start_at_ns() const { return start_at_ns_; }
  /// Failures since the last success.
  std::uint32_t tries() const { return tries_; }

 private:
  std::int64_t patience_ns_;
  std::optional<std::int64_t> since_;
  std::int64_t pause_ns_ = 0;
  std::int64_t start_at_ns_ = INT64_MIN;
  std::uint32_t tries_ = 0;
};

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>

namespace carom::test {

/// billiard's restart_state, transcribed line by line: what restart_intensity has to agree with.
struct billiard_restart_state {
  std::uint64_t maxR;
  std::int64_t maxT;
  std::uint64_t R = 0;
  std::optional<std::int64_t> T{};

  /// False where billiard raises RestartFreqExceeded.
  bool step(std::int64_t now) {
    if (T && now - *T >= maxT) {
      T = now;
      R = 0;
    } else if (maxR && R >= maxR) {
      if (R) {
        R = 0;
        return false;
      }
    }
    if (!T) T = now;
    R += 1;
    return true;
  }
  void ack() { R = 0; }
};

}  // namespace carom::test

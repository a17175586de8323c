// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <utility>

namespace carom::actors {

/// How many deaths are allowed within a window that starts with a death: billiard's restart_state,
/// step by step, but for 0, which allows none, as in OTP, and not any number. Pure: `now_ns` is
/// whatever clock the caller keeps.
class restart_intensity {
 public:
  /// `most` deaths in `period_ns`.
  restart_intensity(std::uint32_t most, std::int64_t period_ns)
      : most_(most), period_ns_(period_ns) {}

  /// One worker died. False if that was one too many.
  bool step(std::int64_t now_ns) {
    if (begun_ && now_ns - since_ns_ >= period_ns_) {
      since_ns_ = now_ns;
      count_ = 0;
    } else if (count_ >= most_) {
      count_ = 0;
      return false;
    }
    if (!std::exchange(begun_, true)) since_ns_ = now_ns;
    ++count_;
    return true;
  }

  /// A worker has begun a task: things work.
  void accepted() { count_ = 0; }

  std::uint32_t count() const { return count_; }

 private:
  std::uint32_t most_;
  std::int64_t period_ns_;
  std::int64_t since_ns_ = 0;
  bool begun_ = false;
  std::uint32_t count_ = 0;
};

}  // namespace carom::actors

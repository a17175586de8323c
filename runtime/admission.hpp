// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/pool_options.hpp>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>

#include "runtime/sliced_wait.hpp"

namespace carom::runtime {

/// How much may be under way in a pool at once. Thread-safe.
class admission {
 public:
  admission(std::optional<std::size_t> most, std::optional<std::size_t> most_bytes)
      : most_(most), most_bytes_(most_bytes) {}

  bool limited() const noexcept { return most_ || most_bytes_; }

  /// Counts a task in if there is room.
  bool try_enter(std::size_t bytes) {
    std::lock_guard lock(mutex_);
    return enter(bytes);
  }
  /// Waits for room. False if `end` was called.
  bool wait_to_enter(std::size_t bytes) { return wait_to_enter(bytes, std::nullopt) == entry::in; }
  enum class entry { in, late, ended };
  /// Waits for room, no longer than `timeout`. In a task a checkpoint.
  entry wait_to_enter(std::size_t bytes, std::optional<std::chrono::nanoseconds> timeout) {
    std::unique_lock lock(mutex_);
    entry how = entry::late;
    const auto over = [&] {
      if (ended_)
        how = entry::ended;
      else if (enter(bytes))
        how = entry::in;
      return how != entry::late;
    };
    wait_in_slices(changed_, lock, deadline_in(timeout), over);
    return how;
  }
  void leave(std::size_t bytes) {
    {
      std::lock_guard lock(mutex_);
      --count_;
      bytes_ -= bytes;
    }
    changed_.notify_all();
  }
  /// Nobody waits any more.
  void end() {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
  }

 private:
  bool enter(std::size_t bytes) {
    if (most_ && count_ >= *most_) return false;
    // One that is larger than the limit passes alone; otherwise it never could.
    if (most_bytes_ && count_ != 0 && bytes_ + bytes > *most_bytes_) return false;
    ++count_;
    bytes_ += bytes;
    return true;
  }

  std::optional<std::size_t> most_;
  std::optional<std::size_t> most_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
  bool ended_ = false;
};

}  // namespace carom::runtime

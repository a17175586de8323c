// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>
#include <cstdint>
#include <stop_token>

namespace carom {

/// Tells a task whether it should end: polled, one read of shared memory. See
/// this_task::stop_token.
class CAROM_API stop_token {
 public:
  stop_token() = default;
  explicit stop_token(std::uint64_t key) noexcept : key_(key) {}

  bool stop_requested() const noexcept;

  /// The same as a std::stop_token, for code that registers std::stop_callback: starts, once in a
  /// worker, a helper thread that waits for the limit.
  operator std::stop_token() const;

 private:
  std::uint64_t key_ = 0;
};

}  // namespace carom

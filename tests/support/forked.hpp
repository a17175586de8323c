// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <functional>

namespace carom::test {

/// A forked copy of the test that runs `body` and exits: with 0, or with 1 if `body` returned false
/// or threw. It inherits the handles and the board. It dies with the test.
class forked {
 public:
  explicit forked(const std::function<bool()>& body);
  forked(forked&& other) noexcept;
  forked& operator=(forked&& other) noexcept;
  /// Killed if it still runs.
  ~forked();

  pid_t pid() const { return pid_; }
  /// SIGKILL, and waits until it is gone.
  void kill();
  /// Waits for its end: whether it exited with 0.
  bool succeeded();

 private:
  pid_t pid_ = 0;
};

/// Runs `body` in a forked copy of the test, and kills that before its instruction number
/// `instructions` of `body`. Whether it came so far: not if `body` ended before.
bool killed_at_instruction(const std::function<void()>& body, long instructions);

}  // namespace carom::test

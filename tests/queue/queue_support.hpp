// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <utility>

namespace carom::test {

/// A process that a plain fork() makes; killed and reaped at the latest by the destructor.
class forked {
 public:
  /// `run` in the child, whose exit status it gives; 99 if it throws.
  explicit forked(const std::function<int()>& run);
  forked(forked&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  forked& operator=(forked&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
  }
  ~forked();

  pid_t pid() const { return pid_; }
  void kill(int signal = SIGKILL) const;
  /// Waits for its end: the exit status, or minus the signal.
  int wait();

 private:
  pid_t pid_ = 0;
};

/// What a process may do in a time that no healthy one takes.
inline constexpr int exit_of_exception = 99;

}  // namespace carom::test

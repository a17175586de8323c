// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

namespace carom::test {

/// A process that a plain fork() makes; killed and reaped at the latest by the destructor.
class forked_process {
 public:
  /// `run` in the child, whose exit status it gives; 99 if it throws.
  explicit forked_process(const std::function<int()>& run);
  forked_process(forked_process&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  forked_process& operator=(forked_process&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
  }
  ~forked_process();

  pid_t pid() const { return pid_; }
  void kill(int signal = SIGKILL) const;
  /// Waits for its end: the exit status, or minus the signal.
  int wait();

 private:
  pid_t pid_ = 0;
};

/// What a process may do in a time that no healthy one takes.
inline constexpr int exit_of_exception = 99;

/// CAROM_SEED, or one of its own; says which.
std::uint64_t seed();

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <functional>

namespace carom::test {

/// A forked process that runs `body` and leaves: with 0, or with 1 if it throws. Dies with this
/// process and is killed at the latest by the destructor.
class child {
 public:
  explicit child(const std::function<void()>& body);
  child(child&& other) noexcept;
  child(const child&) = delete;
  child& operator=(child&& other) noexcept;
  ~child();

  pid_t pid() const { return pid_; }
  /// Readable once it has ended.
  int sentinel() const { return pidfd_; }
  void kill() const;
  /// Waits for its end; its exit code, or minus the signal.
  int join();

 private:
  pid_t pid_ = 0;
  int pidfd_ = -1;
};

}  // namespace carom::test

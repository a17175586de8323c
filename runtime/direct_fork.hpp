// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <memory>

#include "runtime/fork_server.hpp"
#include "runtime/loop.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// A worker that the host forked itself (start_method::fork), so the host is its parent: it signals
/// the group and reaps.
class direct_child {
 public:
  explicit direct_child(int error) : error_(error) {}
  direct_child(pid_t pid, unique_fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

  bool valid() const noexcept { return pid_ > 0; }
  int error() const noexcept { return error_; }
  pid_t pid() const noexcept { return pid_; }
  int pidfd() const noexcept { return pidfd_.get(); }
  unique_fd duplicate_pidfd() const;

  void signal_group(int signal) const noexcept;
  /// Once the pidfd is readable: ends what is left of the group, then reaps.
  exit_info reap() const noexcept;

  std::unique_ptr<loop::watch> watch;

 private:
  int error_ = 0;
  pid_t pid_ = 0;
  unique_fd pidfd_;
};

/// Forks the calling process. The child keeps the memory and the descriptors that are not
/// close-on-exec, leads its own group, and runs `hooks.run`.
direct_child fork_directly(unique_fd worker_end, child_hooks hooks);

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <memory>

#include "runtime/fork_server.hpp"
#include "runtime/loop.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// A worker forked from the host itself (start_method::fork), below a guardian: a copy of the host
/// that does nothing but outlive the worker. Being a child subreaper it gets what the worker leaves
/// behind, also in sessions of their own, ends it, and then ends as the worker did.
class direct_child {
 public:
  explicit direct_child(int error) : error_(error) {}
  direct_child(pid_t guardian, unique_fd guardian_fd, pid_t worker, unique_fd worker_fd,
               unique_fd told, int mark)
      : guardian_(guardian),
        guardian_fd_(std::move(guardian_fd)),
        worker_(worker),
        worker_fd_(std::move(worker_fd)),
        told_(std::move(told)),
        mark_(mark) {}

  bool valid() const noexcept { return guardian_ > 0; }
  int error() const noexcept { return error_; }
  /// The worker's.
  pid_t pid() const noexcept { return worker_; }
  pid_t guardian() const noexcept { return guardian_; }
  /// Readable once the worker and all that it left behind are gone.
  int pidfd() const noexcept { return guardian_fd_.get(); }
  unique_fd duplicate_pidfd() const;
  /// Of the worker itself.
  unique_fd duplicate_worker_pidfd() const;

  void signal_group(int signal) const noexcept;
  /// Once the pidfd is readable: the worker's exit, as the guardian told it. Ends what the worker
  /// has forked where the guardian was killed before it could.
  exit_info reap() const noexcept;

  /// Kills worker and guardian, and waits until both are gone.
  void end() noexcept;

  std::unique_ptr<loop::watch> watch;

 private:
  int error_ = 0;
  pid_t guardian_ = 0;
  unique_fd guardian_fd_;
  pid_t worker_ = 0;
  unique_fd worker_fd_;
  unique_fd told_;  // where the guardian writes how the worker has ended
  int mark_ = -1;   // the number of the guardian's pidfd in the worker and all that it forks
};

/// Forks the calling process. The worker keeps the memory and the descriptors that are not
/// close-on-exec, leads its own group, and runs `hooks.run`.
direct_child fork_directly(unique_fd worker_end, child_hooks hooks);

}  // namespace carom::runtime

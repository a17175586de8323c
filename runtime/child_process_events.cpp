// SPDX-License-Identifier: BSL-1.0
#include <cerrno>

#include "runtime/child_process.hpp"
#include "runtime/futex.hpp"
#include "runtime/process_state.hpp"

// What the loop brings: that a process has been forked, and how it ended.
namespace carom::runtime {
namespace {

/// While no descriptor is free that would tell of an end.
constexpr std::chrono::milliseconds look_again_after{50};

}  // namespace

void child_process::forked(std::uint64_t id, pid_t pid, unique_fd pidfd) {
  {
    std::lock_guard lock(mutex_);
    // A direct child's own; what came with the message is its guardian's.
    if (unique_fd own = runtime_->worker_pidfd(id)) pidfd = std::move(own);
    pidfd_ = std::move(pidfd);
  }
  pid_ = pid;
  stage_.store(running, std::memory_order_release);
  futex_wake_all(stage_);
}

void child_process::fork_failed(std::uint64_t, int error) {
  error_ = error;
  settle(failed);
}

void child_process::exited(std::uint64_t, const exit_info& info) {
  {
    std::lock_guard lock(mutex_);
    exit_ = info;
  }
  settle(ended);
}

void child_process::contact_lost(std::uint64_t id) {
  // Nobody of ours is its parent any more: its pidfd tells, and the kernel knows how it ended.
  std::unique_lock lock(mutex_);
  if (!runtime_ || stage_ != running) return;
  int fd = pidfd_.get();
  if (fd < 0) {
    // None was free when it started. This one is only watched: the number may be a stranger's by
    // now, whom no signal may meet.
    last_pidfd_ = open_pidfd(pid_);
    fd = last_pidfd_.get();
    if (fd < 0 && errno != ESRCH) {
      if (!look_again_)
        look_again_ = runtime_->events().make_timer([this, id] { contact_lost(id); });
      return look_again_->arm(look_again_after);
    }
  }
  if (fd < 0) {
    const exit_info unknown{.pid = pid_};
    lock.unlock();
    const auto self = shared_from_this();
    return exited(id, unknown);
  }
  watch_ = runtime_->events().on_readable(fd, [this, id, fd] {
    if (!has_ended(fd)) return;
    const auto self = shared_from_this();
    exited(id, exit_of_stranger(pid_, fd));
  });
}

void child_process::settle(stage how) {
  auto& state = process_state::instance();
  std::shared_ptr<child_process> self;  // the list may have been the last to know
  {
    std::lock_guard lock(state.children_mutex);
    if (auto entry = state.children.extract(id_)) self = std::move(entry.mapped());
  }
  std::shared_ptr<host_runtime> runtime;
  {
    std::lock_guard lock(mutex_);
    runtime = std::move(runtime_);
    watch_.reset();
    look_again_.reset();
    last_pidfd_.reset();
  }
  if (runtime) runtime->forget(id_);
  stage_.store(how, std::memory_order_release);
  futex_wake_all(stage_);
  if (runtime) host_runtime::linger(std::move(runtime));
}

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "runtime/worker_page.hpp"

namespace carom::runtime {

/// What this process is while it is a worker; set once by its main thread before any task.
struct worker_identity {
  int index = -1;
  pid_t pid = 0;
  worker_page* page = nullptr;
};
worker_identity& identity() noexcept;

/// What runs now, for `this_task`: written by the worker's main thread, read by any.
struct running_state {
  std::atomic<std::uint64_t> task_id{0};  // 0: nothing
  std::atomic<std::uint64_t> key{0};      // soft_key of the task or of the timed chunk's item
  std::atomic<std::int64_t> started_ns{0};
};
running_state& running() noexcept;

/// A task, or an item, begins: what the one before has registered is forgotten.
void begin_soft_limits(std::uint64_t key, std::int64_t now_ns) noexcept;
void end_soft_limits() noexcept;
/// In a process that a task has forked: what it has heard, and wants to hear, of its limit is its
/// own.
void leave_soft_limits_behind() noexcept;

/// While it lives, this worker's thread behind std::stop_token is not there: a process that starts
/// a fork server must have one thread.
class no_stop_helper {
 public:
  no_stop_helper();
  no_stop_helper(const no_stop_helper&) = delete;
  no_stop_helper& operator=(const no_stop_helper&) = delete;
  ~no_stop_helper();

 private:
  bool paused_ = false;
};

/// Whether this_task::checkpoint would throw, and call what is registered, in this thread.
bool soft_limit_is_due() noexcept;

/// The signal that says "look at the page": interrupts blocking system calls, and does no more.
void install_soft_signal() noexcept;
bool has_soft_signal() noexcept;
void remove_soft_signal() noexcept;

}  // namespace carom::runtime

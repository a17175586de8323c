// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

namespace carom {

/// What can be said of a single task; the first argument of `apply` and `apply_async`.
struct task_options {
  /// Called on the loop thread with the worker's process id when a worker has begun the task
  /// (billiard: accept_callback). Always before the result; not called for a task that never ran.
  std::function<void(pid_t)> on_start{};
  /// A name for this one task, shown in errors beside its number.
  std::string correlation_id{};
};

}  // namespace carom

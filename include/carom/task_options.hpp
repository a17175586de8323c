// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/export.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace carom {

/// A limit of this length is none: it overrules the pool's.
inline constexpr std::chrono::nanoseconds no_limit = std::chrono::nanoseconds::max();

/// A task has passed a time limit.
struct timeout_event {
  std::uint64_t task_id = 0;
  std::string task_name{};
  pid_t pid = 0;
  bool soft = false;
  std::chrono::nanoseconds limit{};
};

/// How often a task is begun again after its worker was lost. It may have done part of its work by
/// then: only for tasks that may run twice.
struct retry_options {
  /// Most times that the task is begun; 1 is no retry. A task that has lost so many workers ends in
  /// worker_lost, which says how many. Of a map each item counts for itself: workers that died
  /// while it ran.
  int attempts = 1;
  /// False: never, whatever the pool's options say.
  bool on_worker_lost = true;
  /// Wait so long before the second attempt, twice as long before the third, and so on.
  std::chrono::nanoseconds backoff{0};
};

/// What can be said of a single task; the first argument of `apply`, `apply_async` and the `map`
/// family, where limits hold for each item. All are optional.
struct task_options {
  /// Called on the loop thread, or where pool_options::executor says, with the worker's process id
  /// when a worker has begun the task (billiard: accept_callback). Always before the result; not
  /// called for a task that never ran.
  std::function<void(pid_t)> on_start{};
  /// Called on the loop thread when the task passes a limit (billiard: timeout_callback).
  std::function<void(const timeout_event&)> on_timeout{};
  /// A name for this one task, shown in errors beside its number.
  std::string correlation_id{};
  /// The task is killed and ends in time_limit_exceeded when it has run so long; counted from its
  /// start. The pool's limit if not given; `no_limit` for none.
  std::optional<std::chrono::nanoseconds> time_limit{};
  /// The task is asked to end when it has run so long: see this_task::checkpoint.
  std::optional<std::chrono::nanoseconds> soft_time_limit{};
  /// The pool's if not given.
  std::optional<retry_options> retry{};
  /// Tasks of a higher one are given to workers first; 0 is usual.
  int priority = 0;
  /// A task that has not begun so long after it was submitted ends in timeout_error and never runs.
  std::optional<std::chrono::nanoseconds> deadline{};
};

}  // namespace carom

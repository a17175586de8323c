// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <carom/call.hpp>
#include <carom/cpu_count.hpp>
#include <carom/executor.hpp>
#include <carom/export.hpp>
#include <carom/start_method.hpp>
#include <carom/task_options.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace carom {

/// What a full pool does with one task more.
enum class overflow {
  block,  ///< the submitting thread waits for room
  reject  ///< queue_full is thrown
};

/// How long to wait before a dead worker is replaced. The first death of a series is followed by
/// `initial`, each other by `multiplier` times the wait before, up to `max`.
struct backoff_options {
  std::chrono::nanoseconds initial{0};  ///< 0: replaced at once, always
  double multiplier = 2;
  std::chrono::nanoseconds max = std::chrono::seconds(30);
  /// A series ends when nobody has died for so long.
  std::chrono::nanoseconds reset_after = std::chrono::seconds(10);
  double jitter = 0.1;  ///< share of a wait that chance may take off, 0 to 1
};

/// How often workers may die before the pool gives up (billiard: max_restarts, max_restart_freq).
/// Workers that die before they are ready count for themselves: 10 for each process are allowed in
/// a second, and in all as long as none has ever been ready.
/// Deaths that the pool orders are none, nor are starts for which the host has no descriptor,
/// memory or process left: those are tried again, each after a longer pause of at most 1 s, and the
/// pool gives up only when all the time no worker has been there, for 10 s or `start_timeout`, if
/// that is less.
struct restart_options {
  /// Deaths allowed within `period`; by default 100 for each process. With 0 the first one is one
  /// too many (billiard: any number is allowed then).
  std::optional<int> max_restarts{};
  std::chrono::nanoseconds period = std::chrono::seconds(1);
  backoff_options backoff{};
};

/// Why a worker is killed.
enum class kill_reason { time_limit, memory_limit, terminated, hung };

/// What `before_kill` is told.
struct kill_event {
  pid_t pid = 0;
  int index = 0;
  kill_reason reason = kill_reason::time_limit;
  std::uint64_t task_id = 0;
  std::string task_name{};
};

/// At most `tasks` are begun in each `period` on average, `burst` at once.
struct rate_limit_options {
  double tasks = 0;
  std::chrono::nanoseconds period = std::chrono::seconds(1);
  int burst = 1;
};

/// The pool has between `min` and `max` workers: one more while tasks wait and all are busy, one
/// less when one has been idle for `idle_time`. A busy worker is never taken away. Tasks wait also
/// where a worker has them behind another one. `grow` and `shrink` go no further than `min` and
/// `max`, and autoscaling goes on from there.
struct autoscale_options {
  int min = 1;
  int max = 1;
  std::chrono::nanoseconds idle_time = std::chrono::seconds(5);
  /// How often it is looked at.
  std::chrono::nanoseconds interval = std::chrono::milliseconds(100);
};

/// A limit for each worker, as setrlimit(2) takes it.
struct resource_limit {
  int resource = 0;  ///< RLIMIT_AS and its like
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
};

/// What a process_up or process_down callback is told.
struct process_event {
  pid_t pid = 0;
  int index = 0;        ///< the worker's place in the pool, from 0
  int exit_status = 0;  ///< as from waitpid; meaningful in on_process_down only
};

/// How a pool is made. An aggregate: `pool p{{.processes = 4}}`.
struct pool_options {
  /// Number of worker processes, 1 to 4096. By default one for each usable CPU.
  int processes = cpu_count();
  carom::start_method start_method = get_start_method();
  /// Run by each worker before its first task (billiard: initializer, initargs). One that throws
  /// counts as a worker's death before it was ready.
  std::optional<packed_call> initializer{};
  /// Most tasks that may be waiting or running at once; unlimited by default.
  std::optional<std::size_t> max_pending{};
  /// Most bytes of packed arguments that may be waiting or running; a single larger task passes
  /// when it is alone.
  std::optional<std::size_t> max_pending_bytes{};
  carom::overflow overflow = overflow::block;
  restart_options restarts{};
  /// A worker is replaced when it has run so many tasks (billiard: maxtasksperchild). The next one
  /// is started before it leaves; neither is a failure.
  std::optional<std::uint64_t> max_tasks_per_child{};
  /// A worker that holds more than so many bytes after a task is replaced (billiard:
  /// max_memory_per_child). Counted: resident memory of its own, without what it was born with.
  std::optional<std::uint64_t> max_memory_per_child{};
  /// A task whose worker holds more than so many bytes is killed and ends in
  /// memory_limit_exceeded. Looked at every 20 ms.
  std::optional<std::uint64_t> memory_limit{};
  /// The same for all workers together: the one that holds most is killed.
  std::optional<std::uint64_t> pool_memory_limit{};
  /// Limits of each task, or of each item of a map, from its start (billiard: timeout,
  /// soft_timeout). See task_options.
  std::optional<std::chrono::nanoseconds> time_limit{};
  std::optional<std::chrono::nanoseconds> soft_time_limit{};
  /// A worker that has to die gets `kill_signal`, with its process group, and SIGKILL when it is
  /// still there after `kill_grace`.
  std::chrono::nanoseconds kill_grace = std::chrono::milliseconds(100);
  int kill_signal = SIGTERM;
  /// Called on the loop thread before a worker is killed for a task that has ended already, or
  /// since it hangs; the kill waits for as long as it says, so that something can look at the
  /// process first. A pool that is closed or terminated does not wait.
  std::function<std::chrono::nanoseconds(const kill_event&)> before_kill{};
  /// A worker whose initializer has not ended by then is killed, which counts as a failed start.
  std::chrono::nanoseconds start_timeout = std::chrono::seconds(60);
  /// A worker that has a task and neither begins nor ends any for so long hangs, and is killed;
  /// what it has not begun runs elsewhere. A running task is not meant: that is `time_limit`.
  std::chrono::nanoseconds claim_deadline = std::chrono::seconds(30);
  /// For tasks that bring none of their own.
  retry_options retry{};
  std::optional<rate_limit_options> rate_limit{};
  std::optional<autoscale_options> autoscale{};
  /// Set in each worker before its initializer: limits, nice(2) increment, CPUs it may use.
  std::vector<resource_limit> rlimits{};
  int nice = 0;
  std::vector<int> cpu_affinity{};
  /// Called on the loop thread when a task passes a limit, before the task's own on_timeout.
  std::function<void(const timeout_event&)> on_timeout{};
  /// Run by each worker that leaves by itself, as its last act (billiard: on_process_exit). It has
  /// 5 s from when the worker is told to leave; then the worker is killed.
  std::optional<packed_call> on_process_exit{};
  /// Called on the loop thread when a worker is ready, and when one is gone.
  std::function<void(const process_event&)> on_process_up{};
  std::function<void(const process_event&)> on_process_down{};
  /// Where `on_timeout`, `on_process_up`, `on_process_down` and the tasks' `on_start` and
  /// `on_timeout` run instead of the loop thread; they are handed to it in their order. A task may
  /// then be seen to have ended before they are over.
  carom::executor executor{};
  /// What carom::log() is told in a worker is written by the host's, with the worker's name in
  /// front, from the level on that the host's logger has when the worker starts; texts are cut at
  /// 16 KiB. Where the host is too far behind it goes to the worker's stderr, as all does without
  /// this.
  bool forward_log = false;
  /// Shown in logs.
  std::string name = "pool";
};

}  // namespace carom

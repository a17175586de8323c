// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/call.hpp>
#include <carom/export.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

namespace carom {

/// How workers are made (billiard: contexts "forkserver" and "fork").
enum class start_method {
  /// From the fork server, which `carom::init` started before there were threads.
  forkserver,
  /// Straight from the host: workers see its memory of that moment. Risky when the host has
  /// threads; logs one warning then.
  fork
};

/// What a full pool does with one task more.
enum class overflow {
  block,  ///< the submitting thread waits for room
  reject  ///< queue_full is thrown
};

/// How many CPUs this process may use: its affinity mask and its cgroup's quota, at least 1.
CAROM_API int cpu_count();

/// How often workers may die before the pool gives up (billiard: max_restarts, max_restart_freq).
struct restart_options {
  /// Deaths allowed within `period`; by default 100 for each process.
  std::optional<int> max_restarts{};
  std::chrono::nanoseconds period = std::chrono::seconds(1);
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
  carom::start_method start_method = start_method::forkserver;
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
  /// Called on the loop thread when a worker is ready, and when one is gone.
  std::function<void(const process_event&)> on_process_up{};
  std::function<void(const process_event&)> on_process_down{};
  /// Shown in logs.
  std::string name = "pool";
};

}  // namespace carom

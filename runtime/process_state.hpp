// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "runtime/fork_server.hpp"

namespace carom::runtime {

class host_runtime;

/// All that this library keeps for the process: the fork server, and the runtime while pools live.
/// A forked copy starts with an empty one.
struct process_state {
  static process_state& instance();

  /// Starts the fork server if there is none. Throws start_method_error.
  void start_fork_server();

  std::mutex mutex;
  std::unique_ptr<fork_server> server;
  /// So many modules were known when it started: it and its workers know the same.
  std::size_t server_modules = 0;
  std::weak_ptr<host_runtime> runtime;
  /// Whether a runtime's loop still runs, and perhaps reads from the fork server.
  bool loop_runs = false;
  std::condition_variable loop_ended;
  /// One more for each worker of any pool.
  std::uint64_t next_worker_id = 1;
};

/// What this process's children run; said once by the layer above, before the fork server starts.
void set_child_hooks(child_hooks hooks);
child_hooks current_child_hooks();

}  // namespace carom::runtime

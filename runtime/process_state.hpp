// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>

#include "runtime/fork_server.hpp"

namespace carom::runtime {

class child_process;
class host_runtime;

/// All that this library keeps for the process: the fork server, the runtime while pools or
/// processes live, the processes. A forked copy starts with an empty one.
struct process_state {
  static process_state& instance();
  /// Null if nobody has asked for it in this process: most workers end without.
  static process_state* existing() noexcept;

  /// Starts the fork server if there is none. Throws start_method_error.
  void start_fork_server();
  /// Forgets one whose descriptor this program has closed. Not while a runtime uses it.
  void drop_closed_server() noexcept;

  std::mutex mutex;
  std::unique_ptr<fork_server> server;
  /// Whether this program has closed the descriptor of the last one.
  bool server_closed = false;
  /// So many modules were known when it started: it and its workers know the same.
  std::atomic<std::size_t> server_modules = 0;
  std::weak_ptr<host_runtime> runtime;
  /// Whether a runtime's loop still runs, and perhaps reads from the fork server.
  bool loop_runs = false;
  std::condition_variable loop_ended;
  /// One more for each worker of any pool.
  std::uint64_t next_worker_id = 1;
  /// Keeps a runtime for a moment after its last user: the next one may come at once.
  std::shared_ptr<host_runtime> lingering;

  std::mutex children_mutex;
  /// Processes that have been started and have not ended, by the ids of their forks.
  std::map<std::uint64_t, std::shared_ptr<child_process>> children;
};

/// What makes a worker of a child: said once by the layer above, before main.
void set_worker_hooks(child_hooks hooks);
child_hooks worker_hooks();
/// What this process's children run.
child_hooks current_child_hooks();

}  // namespace carom::runtime

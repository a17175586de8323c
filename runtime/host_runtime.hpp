// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/pool_options.hpp>
#include <cstdint>
#include <memory>
#include <thread>
#include <unordered_map>

#include "runtime/fork_server.hpp"
#include "runtime/loop.hpp"
#include "runtime/pidfd.hpp"

namespace carom::runtime {

/// The host's side of all pools and processes: one loop on one thread, and the way to new workers.
/// Made with the first of them, gone with the last.
class host_runtime {
 public:
  /// What becomes of a worker; called on the loop.
  struct worker_events {
    virtual void forked(std::uint64_t id, pid_t pid, unique_fd pidfd) = 0;
    virtual void fork_failed(std::uint64_t id, int error) = 0;
    virtual void exited(std::uint64_t id, const exit_info& info) = 0;
    /// Keeper and forker are gone both: nobody is left to end this worker, nor to tell of its exit.
    /// The listener, who has its pidfd, does both.
    virtual void contact_lost(std::uint64_t id) = 0;

   protected:
    ~worker_events() = default;
  };

  /// The process's runtime. Throws start_method_error if workers cannot be made that way.
  static std::shared_ptr<host_runtime> acquire(start_method method);
  /// The same for what needs the loop and no workers: no fork server is started.
  static std::shared_ptr<host_runtime> acquire_loop();
  ~host_runtime();

  loop& events() noexcept;

  static std::uint64_t next_worker_id();

  /// On the loop: makes a worker. `to` hears of it until `forget`.
  void fork_worker(std::uint64_t id, start_method method, unique_fd worker_end, worker_events& to);
  /// On the loop: a pidfd of a worker that has a guardian, whose pidfd `forked` brings; else none.
  unique_fd worker_pidfd(std::uint64_t id) const;
  /// On the loop: has the worker's group signalled by its parent.
  void signal_group(std::uint64_t id, int signal);
  /// On the loop: `id`'s events go nowhere from now on.
  void forget(std::uint64_t id);

  /// On the loop: keeps the runtime for a moment, where it may be the last who has it.
  static void linger(std::shared_ptr<host_runtime> one);
  /// Lets go of what lingers, at the end of the process.
  static void end_lingering();

  /// Kept for the layer above: its actor system.
  std::weak_ptr<void> attachment;

 private:
  struct impl;
  host_runtime();

  std::shared_ptr<impl> impl_;
  std::thread thread_;
};

}  // namespace carom::runtime

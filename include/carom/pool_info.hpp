// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace carom {

enum class worker_state {
  starting,  ///< forked, or running its initializer
  standby,   ///< ready, and waits for a place
  idle,
  busy,
  retiring,  ///< finishes what it has, then leaves
  dying,     ///< is being killed
  leaving
};

/// One worker process as the pool sees it at one moment; see pool::workers.
struct worker_info {
  pid_t pid = 0;  ///< 0: not forked yet
  int index = 0;  ///< its place in the pool
  worker_state state = worker_state::starting;
  /// The task that it runs, 0 and empty if none; for how long; how many wait behind it.
  std::uint64_t task_id = 0;
  std::string task_name{};
  std::chrono::nanoseconds running_for{};
  std::uint32_t waiting = 0;
  /// What the task last said of itself by this_task::progress; 0 of 0 if nothing.
  std::uint64_t progress_done = 0;
  std::uint64_t progress_total = 0;
  /// Resident memory of its own in bytes, 0 if unknown; in a pool with memory limits without what
  /// it was born with.
  std::uint64_t memory = 0;
  /// A pidfd of the process, readable once it has ended (billiard: process_sentinels); closed with
  /// the last copy. -1 while there is none.
  int sentinel() const noexcept { return sentinel_ ? *sentinel_ : -1; }

  std::shared_ptr<const int> sentinel_{};
};

/// Counts since the pool was made, but for the first four, which hold now; see pool::metrics.
struct pool_metrics {
  std::uint32_t workers = 0;  ///< that are to stay: idle, busy, starting, standing by
  std::uint32_t idle = 0;
  std::uint64_t pending = 0;    ///< tasks that wait for a worker (a map counts its chunks)
  std::uint64_t under_way = 0;  ///< tasks given to workers
  std::uint64_t finished = 0;   ///< ended in their value or in an exception of their own
  std::uint64_t lost = 0;       ///< ended in worker_lost
  std::uint64_t timed_out = 0;  ///< passed a hard time limit
  std::uint64_t soft_timed_out = 0;
  std::uint64_t over_memory = 0;
  std::uint64_t terminated = 0;  ///< cancelled or terminated one by one
  std::uint64_t expired = 0;     ///< passed their deadline before they began
  std::uint64_t retried = 0;
  std::uint64_t started_workers = 0;
  std::uint64_t died_workers = 0;  ///< unasked
  std::uint64_t recycled_workers = 0;
  /// How long tasks waited until they were given to a worker: the sum over `dispatched` of them,
  /// and the longest.
  std::uint64_t dispatched = 0;
  std::chrono::nanoseconds waited{};
  std::chrono::nanoseconds longest_wait{};
};

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/pool_options.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace bench {

/// Knows the processes of a pool, told by its callbacks.
class pool_processes {
 public:
  /// Options of a pool that reports to this.
  carom::pool_options options(int workers) const;

  /// The workers, once there are `count`. Throws std::runtime_error if there are not in time.
  std::vector<pid_t> workers(int count) const;
  /// Everything below the process that all workers descend from, with it: keeper, forker, workers.
  std::vector<pid_t> all(int count) const;

 private:
  struct state {
    std::mutex mutex;
    std::condition_variable changed;
    std::set<pid_t> up;
  };
  std::shared_ptr<state> state_ = std::make_shared<state>();
};

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/pool.hpp>
#include <vector>

#include "process.hpp"

namespace bench {

/// Holds workers in a task each until they are released: what proves that all of them run.
class rendezvous {
 public:
  rendezvous() : begun_(make_pipe()), release_(make_pipe()) {}

  /// Sends `count` tasks that say they have begun and wait to be released.
  void submit(carom::pool& pool, int count);
  /// Waits until all have begun. Throws std::runtime_error if they do not.
  void wait();
  /// Releases them and fetches their results.
  void release();

  /// All three: each of `count` workers has run a task then.
  void meet(carom::pool& pool, int count) {
    submit(pool, count);
    wait();
    release();
  }

 private:
  pipe_ends begun_;
  pipe_ends release_;
  std::vector<carom::async_result<void>> held_;
};

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/map_state.hpp>
#include <carom/detail/task_node.hpp>
#include <carom/export.hpp>
#include <cstdint>
#include <memory>

namespace carom::detail {

class pool_handle;

/// Makes the chunks of one map and gives them to the pool. If it goes before `finish`, what has
/// not been given away never runs. For one thread.
class CAROM_API map_sender {
 public:
  /// Throws std::invalid_argument if a chunk has more items than a worker can count.
  map_sender(pool_handle& pool, const task_type& type, code_pointer naming, std::uint64_t items,
             std::uint64_t chunk, bool stop_at_error);
  map_sender(const map_sender&) = delete;
  map_sender& operator=(const map_sender&) = delete;
  ~map_sender();

  /// The next chunk, of `count` items, to be packed.
  task_node& next(std::uint64_t count);
  /// What is packed may run while the rest is made; worthwhile amounts are given away. Throws as
  /// `finish`.
  void pass_on();
  /// Gives away what is left; the parent that is returned is settled with the last chunk, or with
  /// the first error. Throws pool_closed, queue_full.
  task_ref finish();

 private:
  struct state;
  void give_away();

  std::unique_ptr<state> state_;
};

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/call.hpp>
#include <carom/detail/map_state.hpp>
#include <carom/detail/task_node.hpp>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/result_ring.hpp"
#include "runtime/worker_link.hpp"

/// What outcomes do to task nodes: pure bookkeeping, no actors.
namespace carom::actors {

/// Makes the frame's payload the node's. False if the worker names a segment it may not.
bool take_payload(detail::task_node& task, const runtime::result_frame& frame,
                  runtime::worker_link& from);

/// Adds a run of items, or one failed item, to a chunk. False if the frame cannot be.
bool take_items(detail::task_node& chunk, const runtime::result_frame& frame,
                runtime::worker_link& from);

/// The last frame of a chunk: with its last run of items, if any were left to tell of. False if the
/// frame cannot be.
bool take_last_items(detail::task_node& chunk, const runtime::result_frame& frame,
                     runtime::worker_link& from);

/// A chunk that could not be read at all: its error is that of every item left.
bool take_chunk_error(detail::task_node& chunk, const runtime::result_frame& frame,
                      runtime::worker_link& from);

/// Adds `error` for every item from the first unaccounted one up to and with `last`, if there are
/// any.
void fail_items(detail::task_node& chunk, std::uint64_t last, const std::exception_ptr& error);

/// Whether a task has ended, also if nobody has been told yet.
inline bool has_ended(const detail::task_node& task) {
  return task.settled() || task.at.where == detail::task_node::place::withdrawn;
}
/// It has, and is told of later.
inline void mark_ended(detail::task_node& task) {
  task.at.where = detail::task_node::place::withdrawn;
}

/// Whether a chunk still has items to run.
bool has_items_left(const detail::task_node& chunk);

/// Makes a chunk's collected records its payload, and says what they mean to the map it is part
/// of: the parent to settle now, and how.
struct map_progress {
  detail::task_ref parent;  // null if the parent stays as it is
  detail::outcome_kind kind = detail::outcome_kind::none;
};
map_progress close_chunk(detail::task_node& chunk);

/// How errors name a task: its function, and its correlation id if it has one.
std::string task_label(const detail::task_node& task);

/// Makes `error` the payload of a task that is not a chunk.
void set_error(detail::task_node& task, const std::exception_ptr& error);

/// The task types of calls, which name an entry and bring no static type of their own.
class call_types {
 public:
  const detail::task_type& of(const packed_call& call);

 private:
  struct named {
    std::string name;
    detail::task_type type;
  };
  std::map<detail::code_pointer, std::unique_ptr<named>> known_;
};

}  // namespace carom::actors

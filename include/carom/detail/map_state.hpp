// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/chunk.hpp>
#include <carom/detail/task_node.hpp>
#include <carom/task_options.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace carom::detail {

/// The whole of one map call: a parent node that is settled when the last chunk is, or at the
/// first error. Touched by the loop thread once submitted.
struct map_state {
  std::vector<task_ref> chunks;
  std::size_t unsettled = 0;
  bool stop_at_error = true;
};

/// What one chunk has delivered so far.
struct chunk_state {
  std::uint64_t count = 0;
  std::uint64_t first = 0;  // the first item that has not been accounted for
  bool stop_at_error = true;
  bool failed = false;  // some record is one
  task_ref parent;      // null for imap
  /// What came in more than one run; a chunk whose only run is its last needs none.
  std::unique_ptr<blob> records;
};

/// What few tasks have.
struct task_extra {
  std::string correlation_id;
  std::function<void(pid_t)> on_start;
  std::function<void(const timeout_event&)> on_timeout;
  std::optional<retry_options> retry;
  std::int64_t deadline_ns = 0;     // after it was submitted; 0: none
  std::int64_t deadline_at_ns = 0;  // known once it is in the pool
  std::unique_ptr<map_state> map;
};

/// Makes the node of one chunk around its packed payload.
CAROM_API task_ref make_chunk(const task_type& type, segment_source* segments, code_pointer naming,
                              std::uint64_t count, bool stop_at_error);
}  // namespace carom::detail

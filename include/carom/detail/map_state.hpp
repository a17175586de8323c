// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
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
/// first error. Until then the pool holds one reference to it, for all chunks.
struct map_state {
  std::vector<task_ref> chunks;  // the caller's; complete once he has a handle
  std::uint64_t items = 0;
  bool stop_at_error = true;
  /// Chunks that have not ended. Who counts the last one down lets go of the pool's reference.
  alignas(64) std::atomic<std::size_t> unsettled{0};
};

struct chunk_block;

/// What one chunk has delivered so far.
struct chunk_state {
  std::uint64_t count = 0;
  std::uint64_t first = 0;  // the first item that has not been accounted for
  bool stop_at_error = true;
  bool failed = false;          // some record is one
  bool whole = false;           // the payload is the values of all items, without a record
  task_node* parent = nullptr;  // null for imap; there until the last chunk has ended
  /// What came in more than one run; a chunk whose only run is its last needs none.
  std::unique_ptr<blob> records;
  chunk_block* block = nullptr;  // whose room it takes; null if its own
};

/// A task that is a chunk: one object, because a map may have as many chunks as items.
class chunk_node final : public task_node {
 public:
  chunk_node(const task_type& type, segment_source* segments)
      : task_node(type, segments, &state_) {}

 private:
  chunk_state state_;
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

/// Reads the runs of a settled chunk's outcomes in the order of its items.
template <class Read>
void each_record(const task_node& chunk, Read read) {
  std::span<const std::byte> in = chunk.payload().bytes();
  if (const chunk_state& state = *chunk.chunk(); state.whole)
    return read(chunk_record{0, state.count, in.size(), 0, in});
  while (!in.empty()) read(next_chunk_record(in));
}

/// Reads a settled chunk's outcomes in the order of its items: `value(R)` (or `value()`) and
/// `error(std::exception_ptr)` are called for each.
template <class R, class Value, class Error>
void read_chunk(const task_node& chunk, Value value, Error error) {
  const descriptor_scope in_reach(chunk.payload().find_descriptors());
  each_record(chunk, [&](const chunk_record& record) {
    if (record.failed) {
      const std::exception_ptr cause = chunk_error(record);
      for (std::uint64_t i = 0; i < record.count; ++i) error(cause);
      return;
    }
    item_reader reader(record.bytes);
    for (std::uint64_t i = 0; i < record.count; ++i) {
      if constexpr (std::is_void_v<R>) {
        value();
      } else {
        try {
          value(next_value<R>(reader));
        } catch (...) {
          error(std::current_exception());
        }
      }
    }
  });
}

}  // namespace carom::detail

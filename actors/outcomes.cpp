// SPDX-License-Identifier: BSL-1.0
#include "actors/outcomes.hpp"

#include <unistd.h>

#include <algorithm>
#include <carom/detail/chunk.hpp>
#include <carom/detail/exception_codec.hpp>

namespace carom::actors {

using detail::blob;
using detail::chunk_record;
using detail::chunk_state;
using detail::outcome_kind;
using detail::task_node;

namespace {

void append_record(chunk_state& chunk, const chunk_record& record) {
  if (!chunk.records) chunk.records = std::make_unique<blob>();
  detail::append_chunk_record(*chunk.records, record);
  chunk.first += record.count;
  if (!record.failed) return;
  chunk.failed = true;
  // Nothing runs behind the first failed item of a chunk that stops there.
  if (chunk.stop_at_error) chunk.count = chunk.first;
}

bool can_be_next(const chunk_state& chunk, const runtime::result_frame& frame) {
  return frame.first == chunk.first && frame.count != 0 && frame.count <= chunk.count - chunk.first;
}

/// The bytes of a frame, wherever they are, for as long as `holder` lives.
std::optional<std::span<const std::byte>> bytes_of(const runtime::result_frame& frame,
                                                   runtime::worker_link& from, blob& holder) {
  if (!(frame.flags & runtime::flag_segment)) return frame.payload;
  auto lent = from.lend(frame.ticket, frame.length);
  if (!lent) return std::nullopt;
  std::byte* data = lent->data();
  const std::size_t capacity = lent->capacity;
  holder.adopt_segment(
      runtime::result_segments::instance(),
      {data, capacity, runtime::result_segments::handle(std::move(lent), from.warm())},
      frame.length);
  return holder.bytes();
}

/// The descriptors that go with a frame, or none.
void take_descriptors(blob& into, const runtime::result_frame& frame, runtime::worker_link& from) {
  if (frame.flags & runtime::flag_descriptors)
    into.descriptors().merge(from.take_descriptors(frame.position));
}

/// The outcome takes the arguments' place.
void put_in_place(task_node& task, std::span<const std::byte> bytes) {
  // A large argument's segment is wanted back; otherwise its storage serves the result.
  if (!task.payload().segment() && bytes.size() <= task.payload().capacity())
    return task.payload().assign(bytes);
  blob fresh;
  fresh.assign(bytes);  // without memory for it the arguments stay
  task.payload() = std::move(fresh);
}

}  // namespace

bool take_payload(task_node& task, const runtime::result_frame& frame, runtime::worker_link& from) {
  if (frame.flags & runtime::flag_segment) {
    blob held;
    if (!bytes_of(frame, from, held)) return false;
    task.payload() = std::move(held);
    take_descriptors(task.payload(), frame, from);
    return true;
  }
  put_in_place(task, frame.payload);
  take_descriptors(task.payload(), frame, from);
  return true;
}

bool take_items(task_node& node, const runtime::result_frame& frame, runtime::worker_link& from) {
  if (!can_be_next(*node.chunk(), frame)) return false;
  blob held;
  const auto bytes = bytes_of(frame, from, held);
  if (!bytes) return false;
  const bool failed = frame.kind == runtime::result_kind::item_error;
  append_record(*node.chunk(), {frame.first, frame.count, bytes->size(), failed, *bytes});
  take_descriptors(*node.chunk()->records, frame, from);
  return true;
}

bool take_last_items(task_node& node, const runtime::result_frame& frame,
                     runtime::worker_link& from) {
  chunk_state& chunk = *node.chunk();
  if (frame.count == 0) return !has_items_left(node);
  if (!can_be_next(chunk, frame) || frame.count != chunk.count - chunk.first) return false;
  if (chunk.records) return take_items(node, frame, from);
  blob held;
  const auto bytes = bytes_of(frame, from, held);
  if (!bytes) return false;
  // The whole chunk in one run: its values take the arguments' place. A copy, where they lie in a
  // segment: a map may have more chunks than a process may have mappings.
  put_in_place(node, *bytes);
  take_descriptors(node.payload(), frame, from);
  chunk.first = chunk.count;
  chunk.whole = true;
  return true;
}

bool take_chunk_error(task_node& node, const runtime::result_frame& frame,
                      runtime::worker_link& from) {
  chunk_state& chunk = *node.chunk();
  blob held;
  const auto bytes = bytes_of(frame, from, held);
  if (!bytes) return false;
  append_record(chunk, {chunk.first, chunk.count - chunk.first, bytes->size(), 1, *bytes});
  take_descriptors(*chunk.records, frame, from);
  return true;
}

void fail_items(task_node& node, std::uint64_t last, const std::exception_ptr& error) {
  chunk_state& chunk = *node.chunk();
  // The last of them may have been delivered before.
  if (!has_items_left(node) || last < chunk.first) return;
  const std::uint64_t count = std::min(last, chunk.count - 1) - chunk.first + 1;
  blob packed;
  detail::encode_exception(packed, error, ::getpid());
  append_record(chunk, {chunk.first, count, packed.size(), 1, packed.bytes()});
}

bool has_items_left(const task_node& node) {
  const chunk_state& chunk = *node.chunk();
  return chunk.first < chunk.count;
}

map_progress close_chunk(task_node& node) {
  chunk_state& chunk = *node.chunk();
  if (chunk.records) {
    node.payload() = std::move(*chunk.records);
    chunk.records.reset();
  }
  task_node* const parent = std::exchange(chunk.parent, nullptr);
  if (!parent) return {};
  map_progress progress;
  detail::map_state& map = *parent->find_extra()->map;
  if (chunk.failed && map.stop_at_error && !has_ended(*parent)) {
    auto in = node.payload().bytes();
    while (!in.empty() && !progress.parent) {
      const chunk_record record = detail::next_chunk_record(in);
      if (!record.failed) continue;
      parent->payload().assign(record.bytes);
      parent->retain();
      progress = {detail::task_ref(parent), outcome_kind::error};
    }
  }
  if (parent->discarded()) node.payload() = blob();
  if (map.unsettled.fetch_sub(1, std::memory_order_acq_rel) != 1) return progress;
  detail::task_ref last(parent);
  if (progress.parent || has_ended(*parent)) return progress;
  return {std::move(last), outcome_kind::value};
}

std::string task_label(const task_node& task) {
  std::string label = task.name();
  if (const auto* extra = task.find_extra(); extra && !extra->correlation_id.empty())
    label += " (" + extra->correlation_id + ")";
  return label;
}

void set_error(task_node& task, const std::exception_ptr& error) {
  task.payload() = blob();
  detail::encode_exception(task.payload(), error, ::getpid());
}

const detail::task_type& call_types::of(const packed_call& call) {
  const auto entry = detail::call_access::entry(call);
  auto& found = known_[entry];
  if (!found) {
    found = std::make_unique<named>(named{detail::call_access::type_name(call), {}});
    found->type = {entry, found->name.c_str(), false};
  }
  return found->type;
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <carom/detail/map_sender.hpp>
#include <utility>
#include <vector>

#include "actors/pool_handle.hpp"
#include "runtime/chunk_block.hpp"
#include "runtime/segment.hpp"
#include "runtime/task_ids.hpp"

namespace carom::detail {
namespace {

/// Chunks that are given to the pool together at most.
constexpr std::uint32_t most_together = 64;
/// So many packed bytes are given away whatever their number.
constexpr std::size_t bytes_together = 64 * 1024;

}  // namespace

struct map_sender::state {
  pool_handle& pool;
  const task_type& type;
  code_pointer naming;
  bool stop_at_error;
  std::size_t total;
  task_ref parent;
  std::vector<task_ref> chunks;
  std::size_t sent = 0;
  std::size_t together = 1;  // grows: the first workers begin at once
  chunk_block* block = nullptr;
};

map_sender::map_sender(pool_handle& pool, const task_type& type, code_pointer naming,
                       std::uint64_t items, std::uint64_t chunk, bool stop_at_error) {
  static const task_type parent_type{nullptr, "carom::map", false};
  check_chunk_size(std::min(items, chunk));
  const auto total = static_cast<std::size_t>(items / chunk + (items % chunk != 0));
  task_ref parent(new task_node(parent_type, nullptr));
  parent->set_id(next_task_id(), pool.id());
  parent->extra().map = std::make_unique<map_state>();
  map_state& map = *parent->find_extra()->map;
  map.items = items;
  map.stop_at_error = stop_at_error;
  map.unsettled = total;
  state_ = std::make_unique<state>(
      state{pool, type, naming, stop_at_error, total, std::move(parent), {}});
  state_->chunks.reserve(total);
  if (total != 0) state_->parent->retain();  // the pool's
}

map_sender::~map_sender() {
  state& s = *state_;
  if (s.block) s.block->leave(s.block->free());
  const std::size_t unsent = s.total - s.sent;
  if (unsent == 0) return;
  map_state& map = *s.parent->find_extra()->map;
  if (map.unsettled.fetch_sub(unsent, std::memory_order_acq_rel) == unsent) s.parent->release();
}

task_node& map_sender::next(std::uint64_t count) {
  state& s = *state_;
  if (!s.block || s.block->free() == 0)
    s.block = chunk_block::after(s.block, s.total - s.chunks.size());
  task_ref made = s.block->make(s.type, &runtime::argument_segments::instance());
  made->set_function(s.naming);
  chunk_state& chunk = *made->chunk();
  chunk.count = count;
  chunk.stop_at_error = s.stop_at_error;
  chunk.parent = s.parent.get();
  s.chunks.push_back(std::move(made));
  return *s.chunks.back().get();
}

void map_sender::pass_on() {
  state& s = *state_;
  const std::size_t ready = s.chunks.size() - s.sent;
  if (ready < s.together && s.chunks.back()->payload().size() * ready < bytes_together) return;
  s.together = std::min<std::size_t>(2 * s.together, most_together);
  give_away();
}

void map_sender::give_away() {
  state& s = *state_;
  while (s.sent != s.chunks.size())
    s.sent += s.pool.submit(std::span(s.chunks).subspan(s.sent).first(
        std::min<std::size_t>(s.chunks.size() - s.sent, most_together)));
}

task_ref map_sender::finish() {
  state& s = *state_;
  if (s.total == 0) s.parent->settle(outcome_kind::value);
  give_away();
  s.parent->find_extra()->map->chunks = std::move(s.chunks);
  return s.parent;
}

}  // namespace carom::detail

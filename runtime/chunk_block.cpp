// SPDX-License-Identifier: BSL-1.0
#include "runtime/chunk_block.hpp"

#include <new>
#include <stdexcept>

namespace carom::detail {
namespace {

/// The chunks stand behind the block's own members.
constexpr std::size_t first_place =
    (sizeof(chunk_block) + alignof(chunk_node) - 1) / alignof(chunk_node) * alignof(chunk_node);
static_assert(alignof(chunk_node) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

}  // namespace

chunk_block* chunk_block::allocate(std::uint32_t places) {
  return new (::operator new(first_place + places * sizeof(chunk_node))) chunk_block(places);
}

task_ref chunk_block::make(const task_type& type, segment_source* segments) {
  std::byte* const at = reinterpret_cast<std::byte*>(this) + first_place;
  task_ref made(new (at + made_ * sizeof(chunk_node)) chunk_node(type, segments));
  ++made_;
  made->chunk()->block = this;
  return made;
}

void chunk_block::leave(std::uint32_t places) noexcept {
  if (places == 0 || left_.fetch_sub(places, std::memory_order_acq_rel) != places) return;
  this->~chunk_block();
  ::operator delete(this);
}

void check_chunk_size(std::uint64_t items) {
  if (items > INT32_MAX)
    throw std::invalid_argument("a chunk holds at most 2147483647 items: choose a smaller chunk");
}

task_ref make_chunk(const task_type& type, segment_source* segments, code_pointer naming,
                    std::uint64_t count, bool stop_at_error) {
  check_chunk_size(count);
  task_ref node(new chunk_node(type, segments));
  node->set_function(naming);
  node->chunk()->count = count;
  node->chunk()->stop_at_error = stop_at_error;
  return node;
}

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#include "runtime/chunk_block.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <stdexcept>

namespace carom::detail {
namespace {

constexpr std::uint32_t first_places = 64;
/// A page of the larger kind, of which there are 512 times fewer to be had from the kernel.
constexpr std::size_t huge_page = 2 * 1024 * 1024;
/// The chunks stand behind the block's own members.
constexpr std::size_t first_place =
    (sizeof(chunk_block) + alignof(chunk_node) - 1) / alignof(chunk_node) * alignof(chunk_node);
constexpr std::uint32_t most_places = (huge_page - first_place) / sizeof(chunk_node);
static_assert(alignof(chunk_node) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

}  // namespace

chunk_block* chunk_block::after(const chunk_block* before, std::uint64_t wanted) {
  const std::uint32_t more = before ? 2 * before->places_ : first_places;
  const auto places =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(std::min(more, most_places), wanted));
  if (places < most_places)
    return new (::operator new(first_place + places * sizeof(chunk_node))) chunk_block(places);
  void* const room = ::operator new(huge_page, std::align_val_t(huge_page));
  ::madvise(room, huge_page, MADV_HUGEPAGE);
  return new (room) chunk_block(places);
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
  const bool huge = places_ == most_places;
  this->~chunk_block();
  if (huge)
    ::operator delete(this, std::align_val_t(huge_page));
  else
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

// SPDX-License-Identifier: BSL-1.0
#include "runtime/worker_segments.hpp"

#include <carom/errors.hpp>
#include <new>
#include <vector>

#include "runtime/crash_report.hpp"

namespace carom::runtime {

bool worker_segments::add(const serialization::segment_message& told, const unique_fd& fd) {
  if (told.size <= segment::header_size || !is_sealed_memory(fd.get(), told.size)) return false;
  const auto rights = told.writable ? mapping::access::read_write : mapping::access::read;
  known_[told.ticket] = std::make_unique<entry>(
      entry{told.ticket, told.writable, mapping(fd.get(), told.size, rights)});
  return true;
}

void worker_segments::forget(std::uint64_t ticket) { known_.erase(ticket); }

std::optional<std::span<const std::byte>> worker_segments::read(std::uint64_t ticket,
                                                                std::uint64_t length) const {
  const auto it = known_.find(ticket);
  if (it == known_.end() || length > it->second->capacity()) return std::nullopt;
  return std::span<const std::byte>(it->second->memory.data() + segment::header_size, length);
}

worker_segments::entry* worker_segments::find_free(std::size_t bytes) {
  entry* best = nullptr;
  for (auto& [ticket, found] : known_) {
    if (!found->writable || found->capacity() < bytes) continue;
    if (found->in_use().load(std::memory_order_acquire) != 0) continue;
    if (!best || found->capacity() < best->capacity()) best = found.get();
  }
  return best;
}

void worker_segments::drop_what_is_too_small(std::size_t bytes) {
  std::vector<std::uint64_t> gone;
  for (auto& [ticket, found] : known_)
    if (found->writable && found->capacity() < bytes &&
        found->in_use().load(std::memory_order_acquire) == 0)
      gone.push_back(ticket);
  for (const std::uint64_t ticket : gone) {
    known_.erase(ticket);
    host_->dropped(ticket);
  }
}

detail::segment_source::block worker_segments::acquire(std::size_t bytes) {
  // A copy has none of these, and may not speak on the channel.
  end_if_returned_copy();
  entry* found = find_free(bytes);
  if (!found) {
    drop_what_is_too_small(bytes);
    const std::uint64_t ticket = host_->need_segment(bytes);
    const auto it = known_.find(ticket);
    if (it == known_.end() || !it->second->writable || it->second->capacity() < bytes)
      throw encoding_error("there is no memory for a result of " + std::to_string(bytes) +
                           " bytes: return less at a time");
    found = it->second.get();
  }
  found->in_use().store(1, std::memory_order_relaxed);
  return {found->memory.data() + segment::header_size, found->capacity(), found};
}

void worker_segments::release(void* handle) noexcept {
  static_cast<entry*>(handle)->in_use().store(0, std::memory_order_relaxed);
}

std::uint64_t worker_segments::ticket(const void* handle) noexcept {
  return static_cast<const entry*>(handle)->ticket;
}

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// An item as the host keeps it: packed bytes, which lie here or in memory that a client has made,
/// and the descriptors inside of it.
struct queue_item {
  detail::blob bytes;
  unique_fd memory;          // or here, the first `length` bytes
  std::uint64_t length = 0;  // with `memory`
  detail::descriptor_list descriptors;
  bool large = false;  // its bytes are to travel in memory, wherever they are

  void clear() noexcept {
    bytes.clear();
    memory.reset();
    length = 0;
    descriptors.clear();
    large = false;
  }
  bool plain() const noexcept { return !large && descriptors.empty(); }
};

/// Copies what a client's memory holds into `item.bytes`, and gives the memory back. False, and
/// nothing is changed, if that cannot be.
bool copy_in(queue_item& item) noexcept;
/// Memory with these bytes. Throws std::system_error.
unique_fd copy_out(std::span<const std::byte> bytes);

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>

namespace carom::runtime {

/// The mapping of the last shared_buffer that a worker's task had, kept for the case that the next
/// task gets the same buffer: to map and to unmap costs the more, the larger a buffer is. Kept for
/// a moment only, as it keeps the memory alive: a worker drops it before it sleeps, and before it
/// runs a task that was sent no buffer. From any thread.
class kept_mapping {
 public:
  /// What the kernel knows memory by. While a mapping of it exists, no other memory gets the name.
  struct name {
    unsigned long device = 0;
    unsigned long inode = 0;
    std::size_t size = 0;
    friend bool operator==(const name&, const name&) = default;
  };

  /// Whether this thread runs in a worker's task: nobody else would drop it in time.
  static bool wanted() noexcept;
  /// Throws std::system_error.
  static name name_of(int fd, std::size_t size);

  /// Takes over a mapping, in place of the one before.
  static void keep(const name& what, std::byte* at) noexcept;
  /// Gives the mapping of that memory away; null if it is not the one that is kept, which is then
  /// dropped.
  static std::byte* take(const name& what) noexcept;
  static void drop() noexcept;
};

}  // namespace carom::runtime

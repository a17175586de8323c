// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <utility>
#include <vector>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// The descriptor of a handle: of a lock, a value, a connection. A forked copy of the process
/// inherits the handle's memory, but the descriptor may have been closed there, so that its number
/// is free, or somebody else's. This one knows what it was made of, and then neither uses the
/// number nor closes it.
class handle_fd {
 public:
  handle_fd() noexcept = default;
  explicit handle_fd(unique_fd fd) noexcept;
  handle_fd(handle_fd&& other) noexcept { swap(other); }
  handle_fd& operator=(handle_fd&& other) noexcept {
    handle_fd taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~handle_fd();

  /// The descriptor, or -1. Throws process_error if this process has not inherited it. The price of
  /// a load while nobody has closed descriptors.
  int get() const {
    if (seen_.load(std::memory_order_relaxed) != closings()) look_again();
    return fd_.load(std::memory_order_relaxed);
  }
  /// The same by a look at the descriptor itself, which somebody else may have closed too.
  int verified() const;
  bool intact() const noexcept;
  /// Of what it was made of.
  ino_t inode() const noexcept { return inode_; }
  /// Takes `fresh` over if its own is lost; otherwise closes it. By one thread at a time, while
  /// others use it.
  void renew(unique_fd fresh) noexcept;

  /// How often this process, or one that it is a copy of, has closed what it had inherited.
  static unsigned closings() noexcept { return closings_.load(std::memory_order_relaxed); }
  /// To be called behind that.
  static void note_closing() noexcept { closings_.fetch_add(1, std::memory_order_relaxed); }

 private:
  void swap(handle_fd& other) noexcept;
  void look_again() const;

  static std::atomic<unsigned> closings_;

  std::atomic<int> fd_{-1};
  dev_t device_ = 0;
  ino_t inode_ = 0;
  mutable std::atomic<unsigned> seen_{closings()};
};

// What a forked copy goes on using. Memory that handles share and the sockets beside it stay open
// in all processes that are copies of one that has the handle: they are only what the copy has
// inherited anyway, and nobody waits for their end. They are known by what the kernel knows of
// them, so there is no list that a fork could find half changed.

/// New memory, all zeros, for a handle of the kind `name`. Throws std::system_error.
unique_fd make_handle_memory(const char* name, std::size_t size);
/// Says of a socket on which nobody ever waits that it is a handle's.
void mark_as_handle(const unique_fd& socket) noexcept;
/// `fd` under a number that no worker has for something else.
unique_fd out_of_the_way(unique_fd fd) noexcept;

/// Whether `fd` is such memory or such a socket.
bool is_of_handle(int fd) noexcept;
/// All such descriptors of this process, ascending.
std::vector<int> descriptors_of_handles();

/// Numbers below are fixed in workers.
inline constexpr int first_handle_fd = 8;

}  // namespace carom::runtime

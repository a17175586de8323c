// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace carom::detail {

/// The file descriptors that travel beside packed bytes. The bytes name each by its ticket, a
/// number that no other descriptor of any process has; so the lists of several messages can be put
/// together, and corrupt bytes find nothing. Owns its descriptors, which are close-on-exec.
class CAROM_API descriptor_list {
 public:
  /// More of them in one message are refused.
  static constexpr std::size_t most = 1024;

  struct entry {
    std::uint64_t ticket;
    int fd;
  };

  descriptor_list() = default;
  descriptor_list(descriptor_list&& other) noexcept : entries_(std::move(other.entries_)) {
    other.entries_.clear();
  }
  descriptor_list& operator=(descriptor_list&& other) noexcept;
  ~descriptor_list() { clear(); }

  /// Duplicates `fd`; the duplicate's ticket. Throws encoding_error if it is no descriptor, or the
  /// process has no free one, or there are too many.
  std::uint64_t attach(int fd);
  /// Becomes the owner of `fd`, whose ticket another process has given; of a ticket that is there
  /// already it closes the new one.
  void adopt(std::uint64_t ticket, int fd);
  /// Takes over all that `other` has.
  void merge(descriptor_list&& other);
  /// A list of duplicates. Throws encoding_error.
  descriptor_list duplicate() const;

  /// The descriptor with that ticket, still the list's; -1 if there is none.
  int find(std::uint64_t ticket) const noexcept;
  std::span<const entry> entries() const noexcept { return entries_; }
  std::size_t size() const noexcept { return entries_.size(); }
  bool empty() const noexcept { return entries_.empty(); }
  /// Closes those behind the first `count`.
  void truncate(std::size_t count) noexcept;
  void clear() noexcept { truncate(0); }

 private:
  std::vector<entry> entries_;
};

/// While it lives, this thread's readers find descriptors in `list`. A null list changes nothing.
class CAROM_API descriptor_scope {
 public:
  explicit descriptor_scope(const descriptor_list* list) noexcept;
  ~descriptor_scope();
  descriptor_scope(const descriptor_scope&) = delete;
  descriptor_scope& operator=(const descriptor_scope&) = delete;

 private:
  const descriptor_list* before_;
};

/// A duplicate, the caller's, of the descriptor that travelled under `ticket` with the message that
/// this thread unpacks. Throws encoding_error if there is none.
CAROM_API int take_descriptor(std::uint64_t ticket);

}  // namespace carom::detail

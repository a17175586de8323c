// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/handle_form.hpp>
#include <carom/export.hpp>

#include <utility>

namespace carom {

/// Owns a file descriptor. It travels: as an argument or result of a task or process and in a
/// message it arrives as a descriptor of its own for the same open file (dup(2), unix(7)
/// SCM_RIGHTS), close-on-exec, which the receiver owns; what was passed stays open and the
/// caller's, also where it was passed by std::move. Move-only; not synchronized. No more than a
/// number: in a child of start_method::fork, where close-on-exec descriptors are closed, release
/// those that were inherited.
class CAROM_API file_descriptor {
 public:
  file_descriptor() noexcept = default;
  /// Takes over `fd`; -1 is none.
  explicit file_descriptor(int fd) noexcept : fd_(fd) {}
  file_descriptor(file_descriptor&& other) noexcept : fd_(other.release()) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~file_descriptor() { reset(); }

  /// A duplicate of a descriptor that stays the caller's. Throws std::system_error.
  static file_descriptor duplicate(int fd);

  /// The descriptor, or -1.
  int get() const noexcept { return fd_; }
  /// Gives the descriptor away: the caller closes it.
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept;
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  friend struct detail::handle_access;
  void pack(detail::byte_writer& out) const {
    out.put_raw(static_cast<unsigned char>(fd_ >= 0));
    if (fd_ >= 0) out.put_descriptor(fd_);
  }
  static file_descriptor unpack(detail::byte_reader& in) {
    if (in.get_raw<unsigned char>() == 0) return {};
    return file_descriptor(in.get_descriptor());
  }

  int fd_ = -1;
};

template <>
struct detail::form<file_descriptor> : detail::handle_form<file_descriptor> {};

}  // namespace carom

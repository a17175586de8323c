// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <utility>

#include "runtime/handle_fd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// Sealed memory and its mapping. Unlike `mapping`, a forked copy inherits both, so that a handle
/// that was made before the fork works in it.
class shared_mapping {
 public:
  shared_mapping() = default;
  /// New memory, all zeros. Throws std::system_error.
  static shared_mapping make(const char* name, std::size_t size);
  /// Memory that came from another process, whole. Throws encoding_error if it is smaller than
  /// `least` bytes or could shrink under us; std::system_error.
  static shared_mapping adopt(unique_fd fd, std::size_t least);

  shared_mapping(shared_mapping&& other) noexcept
      : fd_(std::move(other.fd_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  shared_mapping& operator=(shared_mapping&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~shared_mapping();

  /// To pass on. Throws process_error if this process has not inherited it.
  int fd() const { return fd_.verified(); }
  /// What has arrived for the same memory: of use if its own is lost.
  void renew(unique_fd fresh) noexcept { fd_.renew(std::move(fresh)); }
  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  /// Leaves the mapping where it is until the process ends.
  void leak() noexcept { data_ = nullptr; }

 private:
  shared_mapping(unique_fd fd, std::size_t size);

  handle_fd fd_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// How many bytes sealed memory has, by the kernel's word. Throws encoding_error if `fd` is no
/// memory that is sealed against shrinking and growing.
std::size_t sealed_size(int fd);

}  // namespace carom::runtime

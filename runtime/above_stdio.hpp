// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "runtime/unique_fd.hpp"

// A program that has closed its standard descriptors goes on printing to their numbers: nothing of
// ours may be there.
namespace carom::runtime {

/// `fd` under a number above the standard ones. Empty, with errno, where it is empty or where no
/// descriptor is free.
inline unique_fd try_above_stdio(unique_fd fd) noexcept {
  if (!fd || fd.get() > STDERR_FILENO) return fd;
  unique_fd lifted(::fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  const int error = errno;
  fd.reset();
  errno = error;
  return lifted;
}

/// The same; throws std::system_error where no descriptor is free.
inline unique_fd above_stdio(unique_fd fd) {
  if (!fd) return fd;
  unique_fd lifted = try_above_stdio(std::move(fd));
  if (!lifted) throw std::system_error(errno, std::system_category(), "duplicating a descriptor");
  return lifted;
}

/// While it lives, what somebody else opens gets no number of a closed standard descriptor.
class standard_numbers_taken {
 public:
  standard_numbers_taken() noexcept {
    for (unique_fd& each : taken_) {
      each.reset(::open("/", O_PATH | O_CLOEXEC));
      if (each.get() <= STDERR_FILENO) continue;
      each.reset();
      break;
    }
  }

 private:
  std::array<unique_fd, STDERR_FILENO + 1> taken_;
};

}  // namespace carom::runtime

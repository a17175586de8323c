// SPDX-License-Identifier: BSL-1.0
#include <carom/file_descriptor.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace carom {

file_descriptor file_descriptor::duplicate(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw std::system_error(errno, std::system_category(), "duplicating a descriptor");
  return file_descriptor(copy);
}

void file_descriptor::reset(int fd) noexcept {
  // Linux has freed the descriptor even where close() reports EINTR: never retry it.
  if (const int old = std::exchange(fd_, fd); old >= 0) ::close(old);
}

}  // namespace carom

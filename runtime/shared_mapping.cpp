// SPDX-License-Identifier: BSL-1.0
#include "runtime/shared_mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <carom/errors.hpp>
#include <cerrno>
#include <string>
#include <system_error>

namespace carom::runtime {

shared_mapping::shared_mapping(unique_fd fd, std::size_t size)
    : fd_(out_of_the_way(std::move(fd))), size_(size) {
  if (size == 0) return;
  void* const at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (at == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map shared memory");
  data_ = static_cast<std::byte*>(at);
}

shared_mapping::~shared_mapping() {
  if (data_) ::munmap(data_, size_);
}

shared_mapping shared_mapping::make(const char* name, std::size_t size) {
  return {make_handle_memory(name, size), size};
}

shared_mapping shared_mapping::adopt(unique_fd fd, std::size_t least) {
  const std::size_t size = sealed_size(fd.get());
  if (size < least)
    throw encoding_error("shared memory is corrupt: it has " + std::to_string(size) +
                         " bytes where at least " + std::to_string(least) + " are needed");
  return {std::move(fd), size};
}

std::size_t sealed_size(int fd) {
  constexpr int needed = F_SEAL_SHRINK | F_SEAL_GROW;
  struct stat status {};
  if (const int seals = ::fcntl(fd, F_GET_SEALS);
      seals < 0 || (seals & needed) != needed || ::fstat(fd, &status) != 0 || status.st_size < 0)
    throw encoding_error("a handle's descriptor is no sealed shared memory");
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace carom::runtime

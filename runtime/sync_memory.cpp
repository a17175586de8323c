// SPDX-License-Identifier: BSL-1.0
#include "runtime/sync_memory.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <carom/errors.hpp>
#include <cerrno>
#include <system_error>
#include <utility>

#include "runtime/segment.hpp"

namespace carom::runtime {

sync_memory::sync_memory(std::size_t size) : fd_(make_handle_memory("sync", size)), size_(size) {
  map();
}

sync_memory::sync_memory(unique_fd fd, sync_header::kind what, std::size_t least_size,
                         std::size_t most_size)
    : fd_(out_of_the_way(std::move(fd))) {
  struct stat status {};
  if (!is_sealed_memory(fd_.get(), least_size) || ::fstat(fd_.get(), &status) != 0 ||
      static_cast<std::size_t>(status.st_size) > most_size)
    throw encoding_error("a lock's descriptor is no sealed memory of its size");
  size_ = static_cast<std::size_t>(status.st_size);
  map();
  const auto& header = as<sync_header>();
  if (header.mark != sync_header::magic || header.is != what) {
    ::munmap(data_, size_);
    throw encoding_error("a lock's memory holds something else");
  }
}

sync_memory::~sync_memory() {
  if (!kept_) ::munmap(data_, size_);
}

void sync_memory::map() {
  void* const at = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (at == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot map the memory of a lock");
  data_ = at;
}

}  // namespace carom::runtime

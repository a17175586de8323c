// SPDX-License-Identifier: BSL-1.0
#include "runtime/queue_item.hpp"

#include <unistd.h>

#include <cerrno>
#include <exception>
#include <system_error>
#include <utility>

#include "runtime/segment.hpp"

namespace carom::runtime {

bool copy_in(queue_item& item) noexcept {
  detail::blob copy;
  try {
    copy.resize_uninitialized(item.length);
  } catch (const std::exception&) {
    return false;
  }
  for (std::uint64_t at = 0; at < item.length;) {
    const ssize_t got =
        ::pread(item.memory.get(), copy.data() + at, item.length - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += static_cast<std::uint64_t>(got);
  }
  item.bytes = std::move(copy);
  item.memory.reset();
  return true;
}

unique_fd copy_out(std::span<const std::byte> bytes) {
  unique_fd memory = make_shared_memory("carom-item", bytes.size());
  for (std::uint64_t at = 0; at < bytes.size();) {
    const ssize_t put =
        ::pwrite(memory.get(), bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) throw std::system_error(errno, std::generic_category(), "cannot fill memory");
    at += static_cast<std::uint64_t>(put);
  }
  return memory;
}

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include "runtime/queue_memory.hpp"

#include <carom/errors.hpp>
#include <memory>
#include <new>
#include <string>

namespace carom::runtime {
namespace {

struct memory {
  unique_fd fd;
  mapping at;
};

}  // namespace

queue_memory& queue_memory::instance() {
  static queue_memory one;
  return one;
}

int queue_memory::descriptor(const void* handle) noexcept {
  return static_cast<const memory*>(handle)->fd.get();
}

detail::segment_source::block queue_memory::acquire(std::size_t bytes) {
  constexpr std::size_t page = 4096;
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  const std::size_t size = (bytes + page - 1) / page * page;
  try {
    auto made = std::make_unique<memory>();
    made->fd = make_shared_memory("carom-item", size);
    made->at = mapping(made->fd.get(), size, mapping::access::read_write);
    std::byte* data = made->at.data();
    return {data, size, made.release()};
  } catch (const std::system_error& e) {
    throw encoding_error("there is no memory for an item of " + std::to_string(bytes) +
                         " bytes: " + e.what());
  }
}

void queue_memory::release(void* handle) noexcept { delete static_cast<memory*>(handle); }

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include "runtime/item_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <carom/errors.hpp>
#include <cerrno>
#include <string>
#include <system_error>

#include "runtime/memfd.hpp"
#include "runtime/shared_mapping.hpp"

namespace carom::runtime {
namespace {

/// What a blob's handle points to: memory of its own, or plain heap where that is enough.
struct item_block {
  unique_fd fd;
  mapping mapped;
  std::unique_ptr<std::byte[]> plain;
};

/// A received item; stateless.
class received_source final : public detail::segment_source {
 public:
  block acquire(std::size_t) override { throw std::bad_alloc(); }
  void release(void* handle) noexcept override { delete static_cast<item_block*>(handle); }
};
received_source received;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

unique_fd make_memory(std::size_t bytes) { return make_memfd("carom-item", bytes); }

constexpr int all_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

/// False if somebody has the memory mapped for writing.
bool try_to_seal(const unique_fd& fd) {
  if (::fcntl(fd.get(), F_ADD_SEALS, all_seals) == 0) return true;
  if (errno != EBUSY) fail("cannot seal a large item");
  return false;
}

}  // namespace

detail::segment_source::block item_memory::acquire(std::size_t bytes) {
  auto made = std::make_unique<item_block>();
  std::byte* data = nullptr;
  if (bytes > limit_) {
    made->fd = make_memory(bytes);
    made->mapped = mapping(made->fd.get(), bytes, mapping::access::read_write);
    data = made->mapped.data();
  } else {
    made->plain.reset(new std::byte[bytes]);
    data = made->plain.get();
  }
  return {data, bytes, made.release()};
}

void item_memory::release(void* handle) noexcept { delete static_cast<item_block*>(handle); }

unique_fd item_memory::detach(detail::blob& packed) {
  if (!packed.segment() || !static_cast<item_block*>(packed.segment())->fd)
    return copy(packed.bytes());
  const std::size_t size = packed.size();
  const std::unique_ptr<item_block> block(static_cast<item_block*>(packed.detach_segment()));
  block->mapped = {};  // or it could not be sealed against writing
  if (try_to_seal(block->fd)) return std::move(block->fd);
  // A process that another thread forked in the moment of the mapping has it too.
  block->mapped = mapping(block->fd.get(), size, mapping::access::read);
  return copy({block->mapped.data(), size});
}

unique_fd item_memory::copy(std::span<const std::byte> bytes) {
  unique_fd fd = make_memory(bytes.size());
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("cannot write a large item");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  if (!try_to_seal(fd)) fail("cannot seal a large item");
  return fd;
}

void item_memory::attach(detail::blob& into, unique_fd body, std::size_t size) {
  const int seals = body ? ::fcntl(body.get(), F_GET_SEALS) : -1;
  constexpr int needed = F_SEAL_SHRINK | F_SEAL_WRITE;
  if (seals < 0 || (seals & needed) != needed || sealed_size(body.get()) < size || size == 0)
    throw encoding_error("a large item did not arrive with its queue's frame");
  auto made = std::make_unique<item_block>();
  made->mapped = mapping(body.get(), size, mapping::access::read);
  std::byte* const data = made->mapped.data();
  into.adopt_segment(received, {data, size, made.release()}, size);
}

}  // namespace carom::runtime

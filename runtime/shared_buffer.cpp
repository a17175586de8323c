// SPDX-License-Identifier: BSL-1.0
#include <sys/mman.h>

#include <atomic>
#include <carom/shared_buffer.hpp>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>

#include "runtime/handle_fd.hpp"
#include "runtime/kept_mapping.hpp"
#include "runtime/segment.hpp"
#include "runtime/shared_mapping.hpp"
#include "runtime/unique_fd.hpp"

namespace carom {

using namespace runtime;

/// Mapped when first looked at: who only passes it on never does. A forked copy inherits the
/// mapping.
struct shared_buffer::memory {
  memory(unique_fd from, std::size_t bytes) : fd(out_of_the_way(std::move(from))), size(bytes) {}
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;
  ~memory() {
    if (std::byte* const at = mapped.load(std::memory_order_relaxed)) give_up(at);
  }

  std::byte* map() {
    if (std::byte* const at = mapped.load(std::memory_order_acquire)) return at;
    std::byte* const made = obtain();
    // Of two threads that come first, one gives its mapping up: no lock that a fork could find
    // held.
    std::byte* first = nullptr;
    if (mapped.compare_exchange_strong(first, made, std::memory_order_acq_rel)) return made;
    ::munmap(made, size);
    return first;
  }

  std::byte* obtain() {
    if (kept_mapping::wanted())
      if (std::byte* const at = kept_mapping::take(kept_mapping::name_of(fd.get(), size)))
        return at;
    void* const made = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (made == MAP_FAILED)
      throw std::system_error(errno, std::generic_category(), "cannot map a shared buffer");
    return static_cast<std::byte*>(made);
  }

  void give_up(std::byte* at) noexcept {
    try {
      if (kept_mapping::wanted())
        return kept_mapping::keep(kept_mapping::name_of(fd.get(), size), at);
    } catch (const std::exception&) {
    }
    ::munmap(at, size);
  }

  handle_fd fd;
  std::size_t size;
  std::atomic<std::byte*> mapped{nullptr};
};

shared_buffer::shared_buffer() noexcept = default;
shared_buffer::shared_buffer(const shared_buffer&) noexcept = default;
shared_buffer::shared_buffer(shared_buffer&&) noexcept = default;
shared_buffer& shared_buffer::operator=(const shared_buffer&) noexcept = default;
shared_buffer& shared_buffer::operator=(shared_buffer&&) noexcept = default;
shared_buffer::~shared_buffer() = default;

shared_buffer::shared_buffer(std::size_t size) {
  if (size == 0) return;
  if (size > std::size_t{1} << 46)
    throw std::invalid_argument("a shared_buffer of more than 64 TiB cannot be mapped");
  memory_ = std::make_shared<memory>(make_handle_memory("buffer", size), size);
}

shared_buffer::shared_buffer(std::span<const std::byte> content) : shared_buffer(content.size()) {
  if (!content.empty()) std::memcpy(map(), content.data(), content.size());
}

std::size_t shared_buffer::size() const noexcept { return memory_ ? memory_->size : 0; }

std::byte* shared_buffer::map() const { return memory_ ? memory_->map() : nullptr; }

void shared_buffer::pack(detail::byte_writer& out) const {
  out.put_raw(static_cast<unsigned char>(memory_ != nullptr));
  if (memory_) out.put_descriptor(memory_->fd.verified());
}

shared_buffer shared_buffer::unpack(detail::byte_reader& in) {
  shared_buffer made;
  if (in.get_raw<unsigned char>() == 0) return made;
  unique_fd fd(in.get_descriptor());
  const std::size_t size = sealed_size(fd.get());
  if (size == 0) detail::throw_corrupt("a shared buffer has no bytes");
  made.memory_ = std::make_shared<memory>(std::move(fd), size);
  return made;
}

shared_buffer copy(const shared_buffer& from) { return shared_buffer(from.bytes()); }

}  // namespace carom

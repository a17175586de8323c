// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/byte_stream.hpp>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "runtime/handle_fd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// What lies at the start of each piece of memory that holds a primitive. The numbers are checked
/// when a handle arrives.
struct sync_header {
  enum class kind : std::uint32_t {
    lock = 1,
    rlock,
    semaphore,
    bounded_semaphore,
    condition,
    event,
    barrier
  };
  static constexpr std::uint64_t magic = 0x31636e79'736d7263;  // "crmsync1"

  sync_header(kind what, std::uint32_t how_many = 0) noexcept
      : mark(magic), is(what), count(how_many) {}

  std::uint64_t mark;
  kind is;
  std::uint32_t count;  // a barrier's parties
};

/// The memory of one primitive: sealed, mapped, and known by its descriptor. Unlike pages of the
/// task path it stays mapped in a forked child, which may use the handles that it inherits.
class sync_memory {
 public:
  /// New and zero. Throws std::system_error.
  explicit sync_memory(std::size_t size);
  /// One that another process has sent, and that claims to be a `what`. Throws encoding_error.
  sync_memory(unique_fd fd, sync_header::kind what, std::size_t least_size, std::size_t most_size);
  sync_memory(unique_fd fd, sync_header::kind what, std::size_t exact_size)
      : sync_memory(std::move(fd), what, exact_size, exact_size) {}
  sync_memory(const sync_memory&) = delete;
  sync_memory& operator=(const sync_memory&) = delete;
  ~sync_memory();

  template <class Page>
  Page& as() const noexcept {
    return *static_cast<Page*>(data_);
  }
  sync_header::kind kind() const noexcept { return as<sync_header>().is; }
  std::size_t size() const noexcept { return size_; }
  /// To pass on. Throws process_error if this process has not inherited it.
  int fd() const { return fd_.verified(); }
  /// Tells it from all other memory that exists.
  std::uint64_t inode() const noexcept { return fd_.inode(); }
  /// What has arrived for the same memory: of use if its own is lost.
  void renew(unique_fd fresh) noexcept { fd_.renew(std::move(fresh)); }
  /// Leaves it mapped for ever: something still points into it.
  void keep_mapped() noexcept { kept_ = true; }

  void pack(detail::byte_writer& out) const { out.put_descriptor(fd()); }

 private:
  void map();

  handle_fd fd_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
  bool kept_ = false;
};

/// The descriptor that `sync_memory::pack` has written. Throws encoding_error.
inline unique_fd unpack_sync_memory(detail::byte_reader& in) {
  return unique_fd(in.get_descriptor());
}

}  // namespace carom::runtime

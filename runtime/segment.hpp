// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <carom/detail/blob.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// A mapping of shared memory that is unmapped with its owner and never inherited by a fork.
class mapping {
 public:
  enum class access { read, read_write };

  mapping() = default;
  /// Throws std::system_error.
  mapping(int fd, std::size_t size, access rights);
  mapping(mapping&& other) noexcept;
  mapping& operator=(mapping&& other) noexcept;
  ~mapping();

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  pid_t owner_ = 0;
};

/// Anonymous memory that other processes can map, sealed against changes of its size. Throws
/// std::system_error, std::bad_alloc.
unique_fd make_shared_memory(const char* name, std::size_t size);
/// Seals it against new writable mappings; those that exist stay.
void seal_against_writing(const unique_fd& memory);
/// Whether `fd` is shared memory of at least `size` bytes that cannot shrink under a reader.
bool is_sealed_memory(int fd, std::size_t size) noexcept;

/// One segment for large payloads, made by the host and known to workers by its ticket. Data begin
/// behind a header that says whether a worker may write it.
struct segment {
  static constexpr std::size_t header_size = 64;

  segment(std::size_t capacity, bool workers_write);

  std::atomic<std::uint32_t>& in_use() const noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(memory.data());
  }
  std::byte* data() const noexcept { return memory.data() + header_size; }

  std::uint64_t ticket;
  std::size_t capacity;
  unique_fd fd;
  mapping memory;
  std::atomic<bool> lent{false};  // a result segment whose result has not been read yet
};

/// The host's segments for arguments: written by the thread that packs, read-only in workers, used
/// again when the task is settled. One for the process; thread-safe; starts anew in a forked copy.
class argument_segments final : public detail::segment_source {
 public:
  static argument_segments& instance();

  block acquire(std::size_t bytes) override;
  void release(void* handle) noexcept override;

  /// Tickets of segments that are gone: workers are to forget them. Empty nearly always.
  std::vector<std::uint64_t> take_dropped();
  bool has_dropped() const noexcept { return has_dropped_.load(std::memory_order_relaxed); }

 private:
  void forget_if_forked();

  std::mutex mutex_;
  pid_t owner_ = 0;
  std::multimap<std::size_t, std::unique_ptr<segment>> free_;
  std::size_t free_bytes_ = 0;
  std::vector<std::uint64_t> dropped_;
  std::atomic<bool> has_dropped_{false};
};

/// What releases a result's segment when the host has read it. Stateless.
class result_segments final : public detail::segment_source {
 public:
  static result_segments& instance();
  /// The handle of a blob that holds `lent`.
  static void* handle(std::shared_ptr<segment> lent);

  block acquire(std::size_t bytes) override;
  void release(void* handle) noexcept override;
};

}  // namespace carom::runtime

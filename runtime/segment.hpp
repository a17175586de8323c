// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <carom/detail/blob.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
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

  /// `capacity` and the header. Throws std::system_error.
  segment(std::size_t size, bool workers_write);

  std::atomic<std::uint32_t>& in_use() const noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(memory.data());
  }
  std::byte* data() const noexcept { return memory.data() + header_size; }
  /// Gives the pages back to the kernel, whoever still maps them; a result's only, an argument's is
  /// sealed against that too.
  void empty() noexcept;

  std::uint64_t ticket;
  std::size_t capacity;
  unique_fd fd;
  mapping memory;
  std::atomic<bool> lent{false};  // a result segment whose result has not been read yet
  bool warm = false;              // not lent, and counted in `warm_results`
};

/// A large argument, from packing to settling: in a segment, or, while too many segments exist, in
/// the heap until it is dispatched. A blob's handle on it.
struct argument_block {
  std::unique_ptr<segment> shared;
  std::unique_ptr<std::byte[]> local;
  std::size_t capacity = 0;
};

/// The host's segments for arguments: written by the thread that packs, read-only in workers, used
/// again when the task is settled. One for the process; thread-safe; starts anew in a forked copy.
class argument_segments final : public detail::segment_source {
 public:
  static argument_segments& instance();

  block acquire(std::size_t bytes) override;
  void release(void* handle) noexcept override;

  /// The segment of a blob, moved out of the heap if need be. Null if there is none to be had now.
  const segment* share(const detail::blob& payload) noexcept;

  /// Tickets of segments that are gone, which workers are to forget. `seen` is the caller's place
  /// in their history, 0 at first.
  std::vector<std::uint64_t> dropped_since(std::uint64_t& seen);
  std::uint64_t drops() const noexcept { return drops_.load(std::memory_order_relaxed); }
  /// Frees what lies idle: the last pool is gone.
  void trim() noexcept;

 private:
  std::unique_ptr<segment> obtain(std::size_t bytes, bool beyond_limit);
  void retire(std::unique_ptr<segment> back);
  void forget_if_forked();

  std::mutex mutex_;
  pid_t owner_ = 0;
  std::multimap<std::size_t, std::unique_ptr<segment>> free_;
  std::size_t free_bytes_ = 0;
  std::size_t existing_ = 0;
  std::deque<std::uint64_t> dropped_;
  std::atomic<std::uint64_t> drops_{0};
};

/// How much of one worker's result segments may stay warm while nobody uses them.
struct warm_results {
  static constexpr std::size_t most_bytes = 64 * 1024 * 1024;
  std::atomic<std::size_t> bytes{0};
};

/// What releases a result's segment when the host has read it. Stateless.
class result_segments final : public detail::segment_source {
 public:
  static result_segments& instance();
  /// The handle of a blob that holds `lent`, a segment of the worker with that account.
  static void* handle(std::shared_ptr<segment> lent, std::shared_ptr<warm_results> account);

  block acquire(std::size_t bytes) override;
  void release(void* handle) noexcept override;
};

}  // namespace carom::runtime

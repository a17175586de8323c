// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>

#include "runtime/segment.hpp"
#include "runtime/unique_fd.hpp"
#include "serialization/worker_messages.hpp"

namespace carom::runtime {

/// The segments that a worker has been told of: arguments' to read, results' to write. Mappings
/// are kept, so a segment that is used again costs nothing. The worker's main thread's.
class worker_segments final : public detail::segment_source {
 public:
  struct requests {
    /// Asks the host for a segment and returns once its answer has been given to `add`; the ticket,
    /// 0 if there is none to be had.
    virtual std::uint64_t need_segment(std::uint64_t bytes) = 0;
    /// Tells the host that a segment is not needed any more.
    virtual void dropped(std::uint64_t ticket) = 0;

   protected:
    ~requests() = default;
  };

  explicit worker_segments(requests& host) : host_(&host) {}

  /// Takes in a segment that the host has sent. False if the descriptor is not what it says.
  bool add(const serialization::segment_message& told, const unique_fd& fd);
  void forget(std::uint64_t ticket);
  bool knows(std::uint64_t ticket) const { return known_.contains(ticket); }

  /// The first `length` bytes of an argument segment; nothing if there is none such.
  std::optional<std::span<const std::byte>> read(std::uint64_t ticket, std::uint64_t length) const;

  block acquire(std::size_t bytes) override;
  void release(void* handle) noexcept override;
  /// The ticket of a handle that a blob has detached; the host releases it.
  static std::uint64_t ticket(const void* handle) noexcept;

 private:
  struct entry {
    std::uint64_t ticket;
    bool writable;
    mapping memory;

    std::atomic<std::uint32_t>& in_use() const {
      return *reinterpret_cast<std::atomic<std::uint32_t>*>(memory.data());
    }
    std::size_t capacity() const { return memory.size() - segment::header_size; }
  };

  entry* find_free(std::size_t bytes);
  void drop_what_is_too_small(std::size_t bytes);

  requests* host_;
  std::unordered_map<std::uint64_t, std::unique_ptr<entry>> known_;
};

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <memory>

#include "runtime/segment.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// Where a queue's items of more than `limit` bytes are packed: memory of their own, whose
/// descriptor then travels in their place. Must outlive the blobs, which hold it.
class item_memory final : public detail::segment_source {
 public:
  explicit item_memory(std::size_t limit) noexcept : limit_(limit) {}

  block acquire(std::size_t bytes) override;
  void release(void* handle) noexcept override;

  /// The memory of a packed item, sealed against all changes: nobody can alter an item that is on
  /// its way. The blob is empty afterwards. Throws std::system_error.
  unique_fd detach(detail::blob& packed);
  /// The same for an item that lies elsewhere: a copy.
  static unique_fd copy(std::span<const std::byte> bytes);

  /// `into` becomes the item of `size` bytes in `body`, unpacked where it lies. Throws
  /// encoding_error if that is not sealed memory of that size; std::system_error.
  static void attach(detail::blob& into, unique_fd body, std::size_t size);

 private:
  std::size_t limit_;
};

}  // namespace carom::runtime

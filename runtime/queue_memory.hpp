// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>

#include "runtime/segment.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// What large items are packed into: memory of their own, whose descriptor travels. Stateless.
class queue_memory final : public detail::segment_source {
 public:
  static queue_memory& instance();
  /// The descriptor of a blob's memory; the blob's.
  static int descriptor(const void* handle) noexcept;

  block acquire(std::size_t bytes) override;
  void release(void* handle) noexcept override;
};

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/worker_page.hpp"

namespace carom::runtime {

/// The producer's account of a ring of bytes: payloads are contiguous and freed in the order in
/// which they were made. Positions count bytes for ever; an offset is a position modulo the size.
class byte_ring {
 public:
  /// Reserves `length` bytes; nothing if they do not fit now.
  std::optional<std::uint64_t> reserve(std::uint64_t length) {
    if (length > ring_bytes) return std::nullopt;
    const std::uint64_t need = (length + 7) / 8 * 8;
    // An empty ring begins at its beginning again: short payloads stay in the same few cache lines.
    if (head_ == tail_) head_ = tail_ = (tail_ + ring_bytes - 1) / ring_bytes * ring_bytes;
    std::uint64_t at = tail_;
    if (at % ring_bytes + need > ring_bytes) at += ring_bytes - at % ring_bytes;
    if (at + need - head_ > ring_bytes) return std::nullopt;
    tail_ = at + need;
    return at % ring_bytes;
  }
  /// Where the last reservation ends; what `release` takes.
  std::uint64_t end() const { return tail_; }
  /// Gives up what was reserved last; `end` is where the reservation before it ends.
  void take_back(std::uint64_t end) { tail_ = end > head_ ? end : head_; }
  /// Frees everything before `end`.
  void release(std::uint64_t end) { head_ = end; }

 private:
  std::uint64_t head_ = 0;
  std::uint64_t tail_ = 0;
};

}  // namespace carom::runtime

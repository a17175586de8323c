// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <carom/detail/map_state.hpp>
#include <cstdint>

namespace carom::detail {

/// Room for some chunks of one map: they come and go together, and one allocation serves them. It
/// goes with the last of them.
class chunk_block {
 public:
  /// Room for up to `wanted` chunks more than stand in `before`, if there is one. Throws
  /// std::bad_alloc. Places that `make` has not filled are still to be left.
  static chunk_block* after(const chunk_block* before, std::uint64_t wanted);

  /// Fills the next place.
  task_ref make(const task_type& type, segment_source* segments);
  std::uint32_t free() const noexcept { return places_ - made_; }
  /// So many places are empty for good.
  void leave(std::uint32_t places) noexcept;

 private:
  explicit chunk_block(std::uint32_t places) : left_(places), places_(places) {}

  std::atomic<std::uint32_t> left_;
  std::uint32_t places_;
  std::uint32_t made_ = 0;
};

/// Throws std::invalid_argument if no worker could count so many items.
void check_chunk_size(std::uint64_t items);

}  // namespace carom::detail

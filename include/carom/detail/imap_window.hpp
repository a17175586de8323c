// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/pool_access.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

namespace carom {

namespace detail {

enum class imap_order { ordered, unordered };

/// The chunks of one imap call that are under way. Bounded by count and by bytes, so that an
/// endless source works in constant memory.
class CAROM_API imap_window {
 public:
  /// Packs the next chunk of at most so many items; null at the end.
  using source = std::function<task_ref(pool_handle&, std::size_t)>;

  /// Throws std::invalid_argument if `chunk` is 0.
  imap_window(std::shared_ptr<pool_handle> pool, imap_order order, std::size_t chunk,
              source next_chunk);
  imap_window(imap_window&&) noexcept;
  imap_window& operator=(imap_window&&) noexcept;
  ~imap_window();

  /// The next settled chunk; null at the end. Throws timeout_error.
  task_ref next(std::optional<std::chrono::nanoseconds> timeout);

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace detail

using detail::imap_order;

}  // namespace carom

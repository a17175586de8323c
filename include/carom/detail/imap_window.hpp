// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/pool_access.hpp>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>

namespace carom {

namespace detail {

enum class imap_order { ordered, unordered };

/// What a source gives next: a chunk, then the error of an item that cannot be packed, or of the
/// source itself. Either may be missing.
struct imap_piece {
  task_ref chunk;
  std::exception_ptr error;
  bool last = false;  // nothing comes behind it
};

/// A settled chunk, or what is to be thrown in an item's place; neither at the end.
struct imap_outcome {
  task_ref chunk;
  std::exception_ptr error;
};

/// The chunks of one imap call that are under way. Bounded by count and by bytes, so that an
/// endless source works in constant memory.
class CAROM_API imap_window {
 public:
  /// Packs the next chunk of at most so many items. Does not throw.
  using source = std::function<imap_piece(pool_handle&, std::size_t)>;

  /// Throws std::invalid_argument if `chunk` is 0.
  imap_window(std::shared_ptr<pool_handle> pool, imap_order order, std::size_t chunk,
              source next_piece);
  imap_window(imap_window&&) noexcept;
  imap_window& operator=(imap_window&&) noexcept;
  ~imap_window();

  /// What is next. Throws timeout_error; queue_full and pool_closed if nothing is under way that
  /// could be waited for. Nothing is lost by that.
  imap_outcome next(std::optional<std::chrono::nanoseconds> timeout);

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace detail

using detail::imap_order;

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <carom/detail/byte_stream.hpp>
#include <carom/export.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace carom::detail {

/// How long an operation on a queue may wait.
struct queue_wait {
  bool now = false;  // not at all
  std::optional<std::chrono::nanoseconds> timeout{};
};

/// An item as it came: its bytes lie here, or in memory that `hold` keeps.
struct queue_received {
  blob local;
  std::shared_ptr<const void> hold;
  std::span<const std::byte> large{};
  descriptor_list descriptors;

  std::span<const std::byte> bytes() const noexcept { return hold ? large : local.bytes(); }
};

/// A process's handle of a queue, shared by all `queue` objects in it that mean the same queue.
/// Thread-safe; in a forked copy it connects anew.
class queue_handle;

CAROM_API std::shared_ptr<queue_handle> make_queue(std::int64_t maxsize, bool joinable);
CAROM_API void pack_queue(byte_writer& out, const queue_handle& queue);
CAROM_API std::shared_ptr<queue_handle> unpack_queue(byte_reader& in, bool joinable);

/// A blob whose bytes, where they are many, lie in memory that can be sent.
CAROM_API blob queue_item_blob();
/// False if there was no room in time. Throws process_error.
CAROM_API bool queue_put(queue_handle& queue, const blob& item, const queue_wait& until);
/// False if there was no item in time. Throws process_error.
CAROM_API bool queue_get(queue_handle& queue, queue_received& into, const queue_wait& until);
CAROM_API std::uint64_t queue_size(queue_handle& queue);
CAROM_API std::uint64_t queue_maxsize(const queue_handle& queue) noexcept;
/// Throws process_error if it was called more often than there were items.
CAROM_API void queue_task_done(queue_handle& queue);
CAROM_API bool queue_join(queue_handle& queue, const queue_wait& until);
CAROM_API void queue_close(queue_handle& queue);
CAROM_API void queue_join_thread(queue_handle& queue, const queue_wait& until);
CAROM_API void queue_cancel_join_thread(queue_handle& queue) noexcept;
/// Names the queue in this process.
CAROM_API std::uint64_t queue_id(const queue_handle& queue) noexcept;

[[noreturn]] CAROM_API void throw_no_queue();

}  // namespace carom::detail

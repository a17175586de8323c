// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <atomic>
#include <carom/detail/blob.hpp>
#include <cstdint>
#include <cstring>
#include <span>

#include "runtime/robust_mutex.hpp"

namespace carom::runtime {

/// What a frame of an item ring holds behind its head.
enum class frame_kind : std::uint32_t {
  plain = 1,            ///< the item
  with_descriptors,     ///< the number of a message with its descriptors, then the item
  in_memory_of_its_own  ///< that number, then the item's size: its bytes are in a descriptor
};

enum class ring_state : std::uint32_t { open, closed, corrupt };

/// The first bytes of the memory that all handles of a queue map. Both sides have lines of their
/// own, so that a producer and a consumer meet only where one has run out of what it knew.
struct item_ring_header {
  static constexpr std::uint64_t expected_magic = 0x31676e69726d6574;  // "temring1"

  std::uint64_t magic = expected_magic;
  std::uint64_t capacity = 0;

  alignas(64) robust_mutex put_lock;
  std::atomic<std::uint64_t> seen_head{0};  // the put side's copy
  std::atomic<std::uint64_t> serial{0};     // of the last message with descriptors
  alignas(64) std::atomic<std::uint64_t> tail{0};

  alignas(64) robust_mutex get_lock;
  std::atomic<std::uint64_t> seen_tail{0};  // the get side's copy
  alignas(64) std::atomic<std::uint64_t> head{0};

  // Hardly ever written: everybody has a copy in its cache.
  alignas(64) std::atomic<ring_state> state{ring_state::open};
  std::atomic<std::uint32_t> getters_wait{0};
  std::atomic<std::uint32_t> putters_wait{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(sizeof(item_ring_header) == 6 * 64 || sizeof(robust_mutex) != 40);

/// A ring of frames. The put side appends under the put lock, the get side takes under the get
/// lock; a frame counts once `tail` is past it, and is gone once `head` is: one store each, so that
/// a process that dies before its store has done nothing. (In the order that moving_place needs.)
/// Others can write anything into the memory: each number is read once and checked before it is
/// used.
class item_ring {
 public:
  static constexpr std::size_t header_size = 4096;
  static constexpr std::size_t frame_head = 8;
  static constexpr std::size_t least_capacity = 4096;

  /// `memory` has header_size + capacity bytes; capacity is a power of two.
  item_ring(std::byte* memory, std::uint64_t capacity) noexcept
      : header_(reinterpret_cast<item_ring_header*>(memory)),
        bytes_(memory + header_size),
        capacity_(capacity) {}

  item_ring_header& header() const noexcept { return *header_; }
  std::uint64_t capacity() const noexcept { return capacity_; }

  enum class put_result { done, full, corrupt };
  enum class get_result { done, empty, corrupt };

  /// Whether `size` bytes have room now. `head`: the get side's place, for waiting on.
  put_result room(std::size_t size, std::uint64_t& head) const noexcept {
    const std::uint64_t tail = header_->tail.load(std::memory_order_relaxed);
    head = header_->seen_head.load(std::memory_order_relaxed);
    const std::uint64_t needed = frame_size(size);
    if (!sound(head, tail)) return put_result::corrupt;
    if (needed <= capacity_ - (tail - head)) return put_result::done;
    head = header_->head.load(std::memory_order_acquire);
    if (!sound(head, tail)) return put_result::corrupt;
    header_->seen_head.store(head, std::memory_order_relaxed);
    return needed <= capacity_ - (tail - head) ? put_result::done : put_result::full;
  }

  /// Appends a frame that has room.
  void put(frame_kind kind, std::span<const std::byte> first,
           std::span<const std::byte> second) noexcept {
    const std::uint64_t tail = header_->tail.load(std::memory_order_relaxed);
    const std::uint64_t size = first.size() + second.size();
    write(tail, pack_head(kind, size));
    copy_in(tail + frame_head, first);
    copy_in(tail + frame_head + first.size(), second);
    header_->tail.store(tail + frame_size(size), std::memory_order_seq_cst);
  }

  /// A frame that was looked at and not taken yet.
  struct frame {
    frame_kind kind{};
    std::uint32_t size = 0;
    std::uint64_t head = 0;
  };

  /// The oldest frame. `tail`: the put side's place, for waiting on.
  get_result front(frame& found, std::uint64_t& tail) const noexcept {
    const std::uint64_t head = header_->head.load(std::memory_order_relaxed);
    tail = header_->seen_tail.load(std::memory_order_relaxed);
    if (tail == head || !sound(head, tail)) {
      tail = header_->tail.load(std::memory_order_acquire);
      if (!sound(head, tail)) return get_result::corrupt;
      header_->seen_tail.store(tail, std::memory_order_relaxed);
      if (tail == head) return get_result::empty;
    }
    return frame_at(head, tail, found);
  }

  /// The frame at `head`, which is before `tail`.
  get_result frame_at(std::uint64_t head, std::uint64_t tail, frame& found) const noexcept {
    const auto word = read(head);
    found.kind = static_cast<frame_kind>((word >> 32) ^ mark);
    found.size = static_cast<std::uint32_t>(word);
    found.head = head;
    // Frames start at multiples of 8, so that their head is never split.
    if (frame_size(found.size) > tail - head || !known(found)) return get_result::corrupt;
    return get_result::done;
  }

  /// Copies `into.size()` bytes of the frame's content out, from `offset` on.
  void copy_out(const frame& from, std::size_t offset, std::span<std::byte> into) const noexcept {
    const std::size_t at = (from.head + frame_head + offset) & (capacity_ - 1);
    const std::size_t straight = std::min<std::size_t>(into.size(), capacity_ - at);
    std::memcpy(into.data(), bytes_ + at, straight);
    if (straight < into.size()) std::memcpy(into.data() + straight, bytes_, into.size() - straight);
  }

  /// The frame is taken.
  void pop(const frame& taken) noexcept {
    header_->head.store(next(taken), std::memory_order_seq_cst);
  }
  static std::uint64_t next(const frame& one) noexcept { return one.head + frame_size(one.size); }

  bool empty() const noexcept {
    return header_->head.load(std::memory_order_acquire) ==
           header_->tail.load(std::memory_order_acquire);
  }

  static constexpr std::uint64_t frame_size(std::uint64_t content) noexcept {
    return frame_head + (content + 7) / 8 * 8;
  }

 private:
  // Nobody's bytes are a frame by chance.
  static constexpr std::uint64_t mark = 0xca205e00;

  static std::uint64_t pack_head(frame_kind kind, std::uint64_t size) noexcept {
    return (static_cast<std::uint64_t>(kind) ^ mark) << 32 | size;
  }
  static bool known(const frame& one) noexcept {
    switch (one.kind) {
      case frame_kind::plain: return true;
      case frame_kind::with_descriptors: return one.size >= 8;
      case frame_kind::in_memory_of_its_own: return one.size == 16;
    }
    return false;
  }
  bool sound(std::uint64_t head, std::uint64_t tail) const noexcept {
    return tail - head <= capacity_ && ((head | tail) & 7) == 0;
  }
  std::atomic_ref<std::uint64_t> word_at(std::uint64_t position) const noexcept {
    return std::atomic_ref<std::uint64_t>(
        *reinterpret_cast<std::uint64_t*>(bytes_ + (position & (capacity_ - 1))));
  }
  std::uint64_t read(std::uint64_t position) const noexcept {
    return word_at(position).load(std::memory_order_relaxed);
  }
  void write(std::uint64_t position, std::uint64_t word) const noexcept {
    word_at(position).store(word, std::memory_order_relaxed);
  }
  void copy_in(std::uint64_t position, std::span<const std::byte> content) noexcept {
    if (content.empty()) return;
    const std::size_t at = position & (capacity_ - 1);
    const std::size_t straight = std::min<std::size_t>(content.size(), capacity_ - at);
    std::memcpy(bytes_ + at, content.data(), straight);
    if (straight < content.size())
      std::memcpy(bytes_, content.data() + straight, content.size() - straight);
  }

  item_ring_header* header_;
  std::byte* bytes_;
  std::uint64_t capacity_;
};

}  // namespace carom::runtime

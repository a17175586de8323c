// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstring>
#include <span>

#include "runtime/byte_ring.hpp"
#include "runtime/worker_page.hpp"

namespace carom::runtime {

/// What a worker says of a task.
struct result_frame {
  std::uint64_t position = 0;
  result_kind kind = result_kind::value;
  std::uint32_t flags = 0;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  std::uint64_t ticket = 0;  // with flag_segment
  std::uint64_t length = 0;  // with flag_segment
  std::span<const std::byte> payload{};
};

/// The worker's end of its results. Not synchronized.
class result_producer {
 public:
  explicit result_producer(worker_page& page) : page_(&page) {}

  /// False if there is no room now.
  bool write(const result_frame& frame) {
    const std::uint64_t head = page_->header.result_head.load(std::memory_order_seq_cst);
    if (head != head_) {
      bytes_.release(ends_[(head - 1) % ring_slots]);
      head_ = head;
    }
    if (tail_ - head_ == ring_slots) return false;
    result_slot& slot = page_->results[tail_ % ring_slots];
    slot.payload = frame.ticket;
    slot.length = frame.length;
    if (!(frame.flags & flag_segment)) {
      const auto at = bytes_.reserve(frame.payload.size());
      if (!at) return false;
      if (!frame.payload.empty())
        std::memcpy(page_->result_bytes.data() + *at, frame.payload.data(), frame.payload.size());
      slot.payload = *at;
      slot.length = frame.payload.size();
    }
    ends_[tail_ % ring_slots] = bytes_.end();
    slot.position = frame.position;
    slot.kind = static_cast<std::uint32_t>(frame.kind);
    slot.flags = frame.flags;
    slot.first = frame.first;
    slot.count = frame.count;
    ++tail_;
    return true;
  }

  /// Takes back the frame that was written last and not shown to the host yet.
  void take_back() {
    --tail_;
    bytes_.take_back(tail_ == head_ ? 0 : ends_[(tail_ - 1) % ring_slots]);
  }

  /// Whether the host has freed anything since the last `write`.
  bool room_changed() const {
    return page_->header.result_head.load(std::memory_order_seq_cst) != head_;
  }

  /// Shows the host what was written. Says whether the host must be rung.
  bool publish() {
    page_->header.result_tail.store(tail_, std::memory_order_seq_cst);
    auto& armed = page_->header.host_armed;
    return armed.load(std::memory_order_seq_cst) != 0 &&
           armed.exchange(0, std::memory_order_seq_cst) != 0;
  }

 private:
  worker_page* page_;
  std::uint64_t head_ = 0;
  std::uint64_t tail_ = 0;
  byte_ring bytes_;
  std::array<std::uint64_t, ring_slots> ends_{};
};

/// The host's end of a worker's results. Everything read is checked. Not synchronized.
class result_consumer {
 public:
  explicit result_consumer(worker_page& page) : page_(&page) {}

  /// How many results are there to be read; more than the ring holds if the page is corrupt.
  std::uint64_t available() const {
    return page_->header.result_tail.load(std::memory_order_seq_cst) - head_;
  }

  /// Reads result number `index` of those available into `frame`. False if it is corrupt.
  bool peek(std::uint64_t index, result_frame& frame) const {
    const result_slot& slot = page_->results[(head_ + index) % ring_slots];
    const result_slot copy = slot;  // one read: the worker might still write
    if (copy.kind > static_cast<std::uint32_t>(result_kind::chunk_done)) return false;
    frame.position = copy.position;
    frame.kind = static_cast<result_kind>(copy.kind);
    frame.flags = copy.flags;
    frame.first = copy.first;
    frame.count = copy.count;
    frame.ticket = copy.payload;
    frame.length = copy.length;
    frame.payload = {};
    if (copy.flags & flag_segment) return true;
    if (copy.payload > ring_bytes || copy.length > ring_bytes - copy.payload) return false;
    frame.payload = std::span(page_->result_bytes.data() + copy.payload, copy.length);
    return true;
  }

  /// Gives `count` results' room back to the worker.
  void release(std::uint64_t count) {
    head_ += count;
    page_->header.result_head.store(head_, std::memory_order_seq_cst);
  }

  /// Asks for a bell with the next result. False if there is one already: then nobody will ring.
  bool arm() {
    page_->header.host_armed.store(1, std::memory_order_seq_cst);
    if (available() == 0) return true;
    page_->header.host_armed.store(0, std::memory_order_relaxed);
    return false;
  }

 private:
  worker_page* page_;
  std::uint64_t head_ = 0;
};

}  // namespace carom::runtime

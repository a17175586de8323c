// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "runtime/byte_ring.hpp"
#include "runtime/worker_page.hpp"

namespace carom::runtime {

/// What the host says of one task.
struct task_frame {
  std::uint64_t task_id = 0;
  std::uint64_t module = 0;
  std::uint64_t offset = 0;
  std::uint32_t flags = 0;
  std::uint32_t first = 0;
  std::uint64_t ticket = 0;  // with flag_segment
  std::uint64_t length = 0;  // with flag_segment
  std::span<const std::byte> payload{};
};

/// A slot as the host finds it.
struct claim_view {
  claim_state state;
  std::int64_t started_ns;
};

/// The host's end of a worker's tasks. Not synchronized: the loop thread's.
class task_producer {
 public:
  explicit task_producer(worker_page& page) : page_(&page) {}

  std::uint64_t tail() const { return tail_; }
  /// First position that the worker has not left behind, as of the last `refresh`.
  std::uint64_t head() const { return head_; }

  /// Takes in how far the worker is. False if the page says what cannot be.
  bool refresh() {
    const std::uint64_t head = page_->header.task_head.load(std::memory_order_acquire);
    if (head < head_ || head > published_) return false;
    if (head != head_) bytes_.release(ends_[(head - 1) % ring_slots]);
    head_ = head;
    return true;
  }

  /// Writes a frame behind the others; the worker sees it after `publish`. Nothing if it does not
  /// fit now.
  std::optional<std::uint64_t> write(const task_frame& frame) {
    // One slot stays free: a task that has been left but not reported is still the host's.
    if (tail_ - head_ >= ring_slots - 1) return std::nullopt;
    task_slot& slot = page_->tasks[tail_ % ring_slots];
    slot.payload = frame.ticket;
    slot.length = frame.length;
    if (!(frame.flags & flag_segment)) {
      const auto at = bytes_.reserve(frame.payload.size());
      if (!at) return std::nullopt;
      if (!frame.payload.empty())
        std::memcpy(page_->task_bytes.data() + *at, frame.payload.data(), frame.payload.size());
      slot.payload = *at;
      slot.length = frame.payload.size();
    }
    ends_[tail_ % ring_slots] = bytes_.end();
    slot.task_id = frame.task_id;
    slot.module = frame.module;
    slot.offset = frame.offset;
    slot.flags = frame.flags;
    slot.first = frame.first;
    slot.started_ns.store(0, std::memory_order_relaxed);
    slot.claim.store(claim_word(tail_, claim_state::queued), std::memory_order_relaxed);
    return tail_++;
  }

  /// Shows the worker all frames written so far. Says whether it must be rung.
  bool publish() {
    published_ = tail_;
    page_->header.task_tail.store(tail_, std::memory_order_seq_cst);
    return take_waiter(worker_wait::tasks);
  }

  /// Says whether a worker that sleeps for `reason` (or for tasks) must be rung, once.
  bool take_waiter(worker_wait reason) {
    auto& waits = page_->header.worker_waits;
    const auto wanted = static_cast<std::uint32_t>(reason);
    // Only this wait is taken back: the worker may begin another one meanwhile.
    std::uint32_t found = waits.load(std::memory_order_seq_cst);
    return found == wanted && waits.compare_exchange_strong(found, 0, std::memory_order_seq_cst);
  }

  /// Takes a task back before it starts: true if it will never run there.
  bool revoke(std::uint64_t position) {
    return exchange(position, claim_state::queued, claim_state::revoked);
  }

  /// Takes the end of a running task away from its worker: true if it will never be finished, and
  /// the worker will claim nothing more.
  bool condemn(std::uint64_t position) {
    return exchange(position, claim_state::running, claim_state::condemned);
  }

  /// The item of a timed chunk at `position` that runs now, and since when.
  struct item_view {
    std::uint64_t item;
    std::int64_t started_ns;
  };
  std::optional<item_view> running_item(std::uint64_t position) const {
    const std::uint64_t cursor = page_->header.cursor.load(std::memory_order_acquire);
    // Stored before the cursor: at least as young as the item.
    const std::int64_t started = page_->header.item_started_ns.load(std::memory_order_relaxed);
    if (!cursor_is_of(cursor, position) || cursor & cursor_between) return std::nullopt;
    return item_view{cursor_item(cursor), started};
  }
  /// Takes the cursor while it still says `item`: that item will never be finished, and no other
  /// will begin.
  bool condemn_item(std::uint64_t position, std::uint64_t item) {
    std::uint64_t expected = cursor_base(position) | item;
    return page_->header.cursor.compare_exchange_strong(expected, cursor_taken,
                                                        std::memory_order_acq_rel);
  }

  /// Tells the worker that what `key` names has passed its soft limit; a signal must follow.
  void pass_soft_limit(std::uint64_t key, std::int64_t limit_ns, std::string_view name) {
    page_header& header = page_->header;
    header.soft_limit_ns = limit_ns;
    const std::size_t length = std::min(name.size(), header.soft_name.size() - 1);
    std::memcpy(header.soft_name.data(), name.data(), length);
    header.soft_name[length] = 0;
    header.soft_limit.store(key, std::memory_order_release);
    header.soft_bell.fetch_add(1, std::memory_order_seq_cst);
  }

  claim_view look(std::uint64_t position) const {
    const task_slot& slot = page_->tasks[position % ring_slots];
    const std::uint64_t word = slot.claim.load(std::memory_order_acquire);
    const std::int64_t started = slot.started_ns.load(std::memory_order_relaxed);
    for (auto state : {claim_state::queued, claim_state::running, claim_state::done,
                       claim_state::revoked, claim_state::condemned})
      if (word == claim_word(position, state)) return {state, started};
    // Not a word that can be: a corrupt worker wrote here, so it must have been at work here.
    return {claim_state::running, started};
  }

 private:
  bool exchange(std::uint64_t position, claim_state from, claim_state to) {
    std::uint64_t expected = claim_word(position, from);
    return page_->tasks[position % ring_slots].claim.compare_exchange_strong(
        expected, claim_word(position, to), std::memory_order_acq_rel);
  }

  worker_page* page_;
  std::uint64_t head_ = 0;
  std::uint64_t tail_ = 0;
  std::uint64_t published_ = 0;
  byte_ring bytes_;
  std::array<std::uint64_t, ring_slots> ends_{};
};

/// The worker's end of its tasks. Not synchronized: the worker's main thread's.
class task_consumer {
 public:
  explicit task_consumer(worker_page& page) : page_(&page) {}

  bool empty() const { return page_->header.task_tail.load(std::memory_order_seq_cst) == head_; }

  /// The task at the head if there is one and the host has not revoked it; claimed from now on.
  /// Revoked ones are left behind, after `skipped(slot)`.
  template <class Skipped>
  const task_slot* claim(std::int64_t now_ns, Skipped skipped) {
    const std::uint64_t tail = page_->header.task_tail.load(std::memory_order_acquire);
    while (head_ != tail) {
      task_slot& slot = page_->tasks[head_ % ring_slots];
      slot.started_ns.store(now_ns, std::memory_order_relaxed);
      std::uint64_t expected = claim_word(head_, claim_state::queued);
      if (slot.claim.compare_exchange_strong(expected, claim_word(head_, claim_state::running),
                                             std::memory_order_acq_rel))
        return &slot;
      skipped(slot);
      leave();
    }
    return nullptr;
  }
  const task_slot* claim(std::int64_t now_ns) {
    return claim(now_ns, [](const task_slot&) {});
  }

  std::uint64_t position() const { return head_; }

  /// The payload of an inline slot; nothing if the slot points outside of the ring.
  std::optional<std::span<const std::byte>> payload(const task_slot& slot) const {
    const std::uint64_t at = slot.payload, length = slot.length;
    if (at > ring_bytes || length > ring_bytes - at) return std::nullopt;
    return std::span(page_->task_bytes.data() + at, length);
  }

  /// Ends the claimed task; false if the host has condemned it meanwhile: then nothing more may be
  /// claimed.
  bool finish() {
    std::uint64_t expected = claim_word(head_, claim_state::running);
    return page_->tasks[head_ % ring_slots].claim.compare_exchange_strong(
        expected, claim_word(head_, claim_state::done), std::memory_order_acq_rel);
  }

  /// Leaves the slot at the head; the host may use it and its bytes again.
  void leave() { page_->header.task_head.store(++head_, std::memory_order_release); }

 private:
  worker_page* page_;
  std::uint64_t head_ = 0;
};

}  // namespace carom::runtime

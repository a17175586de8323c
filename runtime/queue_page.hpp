// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/worker_page.hpp"

namespace carom::runtime {

inline constexpr std::uint64_t queue_page_magic = 0x6361726f6d717531;  // "caromqu1"

/// A queue of any size lets each client put so far ahead; a bounded one, what room it grants.
inline constexpr std::uint32_t unbounded_grant = std::uint32_t{1} << 30;

/// How far a client may put, and how far it has: one word, so that an item is put and its room used
/// in one step, and the host takes unused room back for certain. Both count for ever, modulo 2^32.
struct put_word {
  std::uint32_t tail;   // client: items put
  std::uint32_t limit;  // host: items that may be put

  static put_word of(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)};
  }
  std::uint64_t word() const { return std::uint64_t{limit} << 32 | tail; }
  std::uint32_t left() const { return limit - tail; }
};

/// How many threads of a client wait, and a count of their turns: who has taken one is alive.
struct demand_word {
  std::uint32_t threads;
  std::uint32_t beat;

  static demand_word of(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)};
  }
  std::uint64_t word() const { return std::uint64_t{beat} << 32 | threads; }
};

/// The memory that a queue's host shares with one client: what it puts is the ring of results, what
/// it gets the ring of tasks, so that the host can take back what has not been taken.
struct queue_page {
  std::uint64_t magic;                                // client
  alignas(64) std::atomic<std::uint64_t> puts;        // both, a put_word
  alignas(64) std::atomic<std::uint64_t> item_wants;  // client, a demand_word: waits for an item
  std::atomic<std::uint64_t> room_wants;              // client, a demand_word: waits for room
  /// Host: counts what it has done for this client, so that what was granted and taken back is
  /// seen.
  alignas(64) std::atomic<std::uint32_t> host_turn;
  /// Host: wants a bell when an item is taken; cleared by who rings.
  alignas(64) std::atomic<std::uint32_t> takes_armed;
  worker_page rings;
};

}  // namespace carom::runtime

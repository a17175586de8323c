// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

/// The memory that the host shares with one worker: a ring of tasks, a ring of results, claims.
/// Plain layout only; `task_ring.hpp` and `result_ring.hpp` hold the rules. Both sides check what
/// they read: the other may be corrupt or dead at any instruction.
namespace carom::runtime {

inline constexpr std::uint32_t ring_slots = 512;
inline constexpr std::uint32_t ring_bytes = 128 * 1024;
/// A payload up to this size goes through the ring; a larger one in a segment.
inline constexpr std::uint32_t largest_inline = 64 * 1024;
inline constexpr std::uint64_t page_magic = 0x6361726f6d706731;  // "carompg1"

/// What has become of a task slot. The claim word is {position << 3 | state}: a stale claim never
/// matches a slot that has been used again.
enum class claim_state : std::uint64_t { queued, running, done, revoked, condemned };

constexpr std::uint64_t claim_word(std::uint64_t position, claim_state state) {
  return position << 3 | static_cast<std::uint64_t>(state);
}

enum task_flags : std::uint32_t {
  flag_chunk = 1,          // a chunk_entry: items with a cursor
  flag_segment = 2,        // the payload lies in the segment `payload`
  flag_observed = 4,       // the host wants a bell when the task is claimed
  flag_stop_at_error = 8,  // a chunk ends at its first failed item
  flag_timed = 16,         // a chunk whose items have time limits
  flag_descriptors = 32,   // descriptors for the payload went ahead on the channel
};

struct alignas(64) task_slot {
  std::atomic<std::uint64_t> claim;
  std::atomic<std::int64_t> started_ns;  // steady clock; stored before the claim
  std::uint64_t task_id;
  std::uint64_t module;
  std::uint64_t offset;
  std::uint64_t payload;  // offset in the bytes, or the segment's ticket
  std::uint64_t length;
  std::uint32_t flags;
  std::uint32_t first;  // chunks: items before this one have run
};
static_assert(sizeof(task_slot) == 64);

enum class result_kind : std::uint32_t { value, error, items, item_error, chunk_done };

struct result_slot {
  std::uint64_t position;  // of the task
  std::uint64_t payload;   // offset in the bytes, or the segment's ticket
  std::uint64_t length;
  std::uint32_t kind;
  std::uint32_t flags;  // flag_segment, flag_descriptors
  std::uint64_t first;  // items, item_error, chunk_done: the first item's index
  std::uint64_t count;  // items, chunk_done: how many
};
static_assert(sizeof(result_slot) == 48);

/// The cursor names the chunk's position with the item, so that a stale one is seen as such. In a
/// timed chunk it moves by compare-and-swap, and the host may take it: no item runs after that.
constexpr std::uint64_t cursor_base(std::uint64_t position) { return position << 32; }
constexpr bool cursor_is_of(std::uint64_t cursor, std::uint64_t position) {
  return (cursor ^ cursor_base(position)) >> 32 == 0;
}
/// In the cursor of a timed chunk: the item has ended, the next has not begun.
inline constexpr std::uint64_t cursor_between = 0x8000'0000;
inline constexpr std::uint64_t cursor_taken = UINT64_MAX;
constexpr std::uint64_t cursor_item(std::uint64_t cursor) { return cursor & (cursor_between - 1); }
/// Names what runs, a task or a timed chunk's item, in `soft_limit`; never 0.
constexpr std::uint64_t soft_key(std::uint64_t position, std::uint64_t item) {
  return (cursor_base(position) | item) + 1;
}

/// Who waits for what, in `worker_waits`.
enum class worker_wait : std::uint32_t { no, tasks, results };

/// What a worker that crashes leaves behind: written by its signal handler.
struct crash_report {
  static constexpr std::uint32_t most_frames = 64;
  std::atomic<std::uint32_t> frame_count;  // stored last; 0: no report
  std::int32_t signal;
  std::uint64_t fault_address;
  std::array<std::uint64_t, most_frames> frames;   // offsets into their modules
  std::array<std::uint32_t, most_frames> modules;  // as the host numbers them; UINT32_MAX: unknown
};

/// Items of a timed chunk that have ended and are not published yet: what a limit that ends the
/// next one must not take along. Valid if `first` is the first item that the host has not got.
struct open_run {
  static constexpr std::uint32_t most_bytes = 16 * 1024;
  std::uint64_t position;
  std::uint64_t first;
  std::uint64_t length;
  std::atomic<std::uint64_t> count;  // stored last; 0: there are none
  std::array<std::byte, most_bytes> bytes;
};

struct page_header {
  std::uint64_t magic;
  std::uint64_t worker_id;  // the generation: never used twice
  std::atomic<std::uint32_t> exit_called;
  std::atomic<std::int32_t> exit_status;

  alignas(64) std::atomic<std::uint64_t> task_tail;  // host
  std::atomic<std::uint32_t> control_count;          // host: control messages sent
  /// Host: the soft_key of what has passed its soft limit, and what the error is to say.
  std::atomic<std::uint32_t> soft_bell;  // a futex, raised with each
  std::atomic<std::uint64_t> soft_limit;
  std::int64_t soft_limit_ns;
  std::array<char, 128> soft_name;
  alignas(64) std::atomic<std::uint64_t> task_head;  // worker
  std::atomic<std::uint64_t> cursor;                 // worker: the chunk item that runs
  std::atomic<std::uint64_t> average_ns;             // worker: how long tasks take, smoothed
  std::atomic<std::int64_t> item_started_ns;         // worker, timed chunks: before the cursor
  std::atomic<std::uint64_t> soft_noticed;           // worker: the soft_key it knows of
  std::atomic<std::uint64_t> born_with_bytes;        // worker: memory before its first act
  std::atomic<std::uint32_t> wants_out;              // worker: too big, claims no more tasks
  /// Worker: what a task says of itself. The task's id is taken away before the others change.
  std::atomic<std::uint64_t> progress_task;
  std::atomic<std::uint64_t> progress_done;
  std::atomic<std::uint64_t> progress_total;
  alignas(64) std::atomic<std::uint64_t> result_tail;  // worker
  alignas(64) std::atomic<std::uint64_t> result_head;  // host
  alignas(64) std::atomic<std::uint32_t> worker_waits;
  /// The host wants a bell for the next result; cleared by who rings.
  alignas(64) std::atomic<std::uint32_t> host_armed;
};

struct worker_page {
  page_header header;
  crash_report crash;
  open_run open;
  std::array<task_slot, ring_slots> tasks;
  std::array<result_slot, ring_slots> results;
  alignas(64) std::array<std::byte, ring_bytes> task_bytes;
  alignas(64) std::array<std::byte, ring_bytes> result_bytes;
};

}  // namespace carom::runtime

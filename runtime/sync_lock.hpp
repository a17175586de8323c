// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <carom/sync.hpp>
#include <cstdint>
#include <memory>

#include "runtime/robust_mutex.hpp"
#include "runtime/sync_memory.hpp"

namespace carom::detail {

/// What `lock` and `rlock` do: this process's mapping of the lock's memory, which all handles
/// share.
class lock_state {
 public:
  static std::shared_ptr<lock_state> make(bool recursive);
  /// What has arrived. Throws encoding_error.
  static std::shared_ptr<lock_state> unpack(byte_reader& in, bool recursive);

  /// A new one.
  explicit lock_state(bool recursive);
  /// One that this process does not know yet. Throws encoding_error.
  lock_state(runtime::unique_fd fd, bool recursive);
  ~lock_state();

  /// As exclusive_lock::lock.
  void acquire() {
    const runtime::lock_outcome first = page_.mutex.try_lock();
    if (first == runtime::lock_outcome::acquired) [[likely]]
      took(false);
    else
      acquire_at_last(first);
  }
  acquire_result acquire(const timeout& time);
  void release();
  bool abandoned() const noexcept {
    return page_.past.load(std::memory_order_relaxed) == history::taken_over;
  }

  // For conditions.

  /// Whether the calling thread has it.
  bool owned();
  /// Releases it from any depth, which it returns; the caller has it.
  std::uint32_t release_all();
  /// Has it again that deep, however long that takes.
  void take_back(std::uint32_t depth);

  bool recursive() const noexcept { return recursive_; }
  void pack(byte_writer& out) const { memory_.pack(out); }
  /// Takes `owned_fd` over, a descriptor of the same memory.
  void renew(int owned_fd) noexcept { memory_.renew(runtime::unique_fd(owned_fd)); }
  const runtime::sync_memory& memory() const noexcept { return memory_; }

 private:
  /// What its owner, or the next one, is to know.
  enum class history : std::uint32_t {
    none,
    taken_over,   // the owner has it from one that died
    left_behind,  // the last owner let go of it without an unlock
  };

  struct page {
    explicit page(runtime::sync_header::kind what) : header(what) {}

    runtime::sync_header header;
    runtime::robust_mutex mutex;
    // Changed by the owner only.
    std::atomic<history> past{history::none};
    std::atomic<std::uint32_t> depth{0};
  };

  void took(bool from_the_dead) noexcept {
    if (from_the_dead || page_.past.load(std::memory_order_relaxed) != history::none) [[unlikely]]
      note_past(from_the_dead);
    page_.depth.store(1, std::memory_order_relaxed);
    held_by_.store(this_thread(), std::memory_order_relaxed);
  }
  void note_past(bool from_the_dead) noexcept;
  void acquire_at_last(runtime::lock_outcome first);
  acquire_result settle(runtime::lock_outcome outcome);
  void deeper();
  void let_go();
  /// As pthread_self, without the call.
  static std::uintptr_t this_thread() noexcept {
    return reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer());
  }

  const bool recursive_;
  runtime::sync_memory memory_;
  page& page_;
  /// Whose list of robust mutexes leads into this mapping; nobody's, or stale, or true. Of the
  /// forked copy of a process: stale.
  std::atomic<std::uintptr_t> held_by_{0};
};

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <carom/detail/blob.hpp>
#include <carom/detail/task_entry.hpp>
#include <carom/export.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace carom::detail {

struct chunk_state;
struct task_extra;
struct task_continuation;

/// What a task ended with; says how its payload is to be read.
enum class outcome_kind : std::uint8_t {
  none,   // not settled yet: the payload holds the arguments
  value,  // the packed result
  error   // a packed exception
};

/// One submitted task, from apply_async to the last handle on it. Counted: the pool holds one
/// reference until the task is settled, each async_result one. The payload belongs to the pool
/// until the task is settled and is read-only after it.
class CAROM_API task_node {
 public:
  explicit task_node(const task_type& type, segment_source* segments)
      : type_(&type), payload_(segments) {}
  task_node(const task_node&) = delete;
  task_node& operator=(const task_node&) = delete;

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }
  /// As `retain`, before anybody else knows the node.
  void retain_unshared() noexcept {
    references_.store(references_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  const task_type& type() const noexcept { return *type_; }
  std::uint64_t id() const noexcept { return id_; }
  /// The function's own address where it has one; names the task.
  code_pointer function() const noexcept { return function_; }
  void set_function(code_pointer function) noexcept { function_ = function; }
  blob& payload() noexcept { return payload_; }
  const blob& payload() const noexcept { return payload_; }

  bool settled() const noexcept { return state_.load(std::memory_order_acquire) == state_settled; }
  /// Valid once settled.
  outcome_kind kind() const noexcept { return kind_; }
  pid_t worker_pid() const noexcept { return worker_pid_.load(std::memory_order_relaxed); }
  void set_worker_pid(pid_t pid) noexcept { worker_pid_.store(pid, std::memory_order_relaxed); }

  /// Blocks the calling thread until the task is settled or `timeout` has passed; says whether it
  /// is settled. Throws carom::error on the loop thread, which would wait for itself.
  bool wait(std::optional<std::chrono::nanoseconds> timeout) const;

  /// Ends the task (its pool only, once): the payload is already the outcome. Wakes who waits.
  /// True if continuations wait, which `run_continuations` runs.
  bool settle(outcome_kind kind) noexcept;
  /// On the loop thread, after `settle`. What continuations throw is logged.
  void run_continuations() noexcept;

  /// Runs `call` when the task is settled: on the loop thread, or here and now if it is already.
  void on_settled(std::function<void()> call);

  void set_id(std::uint64_t id, std::uint32_t pool) noexcept {
    id_ = id;
    pool_ = pool;
  }
  /// Names the pool that has the task.
  std::uint32_t pool() const noexcept { return pool_; }

  /// What the task counts for under pool_options::max_pending_bytes.
  std::size_t admitted_bytes() const noexcept { return admitted_bytes_; }
  void set_admitted_bytes(std::size_t bytes) noexcept { admitted_bytes_ = bytes; }

  /// Limits of its own in nanoseconds; 0: the pool's, INT64_MAX: none.
  std::int64_t time_limit_ns() const noexcept { return time_limit_ns_; }
  std::int64_t soft_time_limit_ns() const noexcept { return soft_time_limit_ns_; }
  void set_time_limits(std::int64_t hard_ns, std::int64_t soft_ns) noexcept {
    time_limit_ns_ = hard_ns;
    soft_time_limit_ns_ = soft_ns;
  }
  int priority() const noexcept { return priority_; }
  void set_priority(int priority) noexcept { priority_ = priority; }

  /// Whether it has passed its soft limit, however it ended; any thread.
  bool soft_limit_passed() const noexcept {
    return soft_limit_passed_.load(std::memory_order_relaxed);
  }
  void pass_soft_limit() noexcept { soft_limit_passed_.store(true, std::memory_order_relaxed); }

  /// Where the task is, and since when it waits; the loop thread's. `delayed`: to be tried again. A
  /// withdrawn one has ended while it waited, and is dropped when its turn comes.
  enum class place : std::uint8_t { nowhere, queue, worker, delayed, withdrawn };
  struct location {
    std::int64_t queued_ns = 0;
    std::uint64_t position = 0;
    std::uint32_t worker = 0;
    place where = place::nowhere;
    std::uint16_t attempts = 0;  // workers that died while they ran it
  };
  location at{};

  /// Drops the result as soon as there is one.
  void discard() noexcept { discarded_.store(true, std::memory_order_relaxed); }
  bool discarded() const noexcept { return discarded_.load(std::memory_order_relaxed); }

  task_extra& extra();
  task_extra* find_extra() const noexcept { return extra_; }

  /// The items of a chunk; null for any other task.
  chunk_state* chunk() const noexcept { return chunk_; }

  std::string name() const;

 protected:
  /// A chunk; `chunk` is part of the same object.
  task_node(const task_type& type, segment_source* segments, chunk_state* chunk)
      : type_(&type), chunk_(chunk), payload_(segments) {}
  ~task_node();

 private:
  friend class submit_queue;

  static constexpr std::uint32_t state_pending = 0;
  static constexpr std::uint32_t state_awaited = 1;
  static constexpr std::uint32_t state_settled = 2;

  void destroy() noexcept;

  mutable std::atomic<std::uint32_t> state_{state_pending};
  std::atomic<std::uint32_t> references_{1};
  task_node* next_ = nullptr;
  const task_type* type_;
  code_pointer function_ = nullptr;
  std::uint64_t id_ = 0;
  std::uint32_t pool_ = 0;
  task_extra* extra_ = nullptr;
  chunk_state* chunk_ = nullptr;
  std::atomic<task_continuation*> continuations_{nullptr};
  std::size_t admitted_bytes_ = 0;
  std::int64_t time_limit_ns_ = 0;
  std::int64_t soft_time_limit_ns_ = 0;
  int priority_ = 0;
  std::atomic<pid_t> worker_pid_{0};
  std::atomic<bool> soft_limit_passed_{false};
  outcome_kind kind_ = outcome_kind::none;
  std::atomic<bool> discarded_{false};
  blob payload_;
};

/// Owns one reference to a node.
class task_ref {
 public:
  task_ref() = default;
  explicit task_ref(task_node* adopted) noexcept : node_(adopted) {}
  task_ref(const task_ref& other) noexcept : node_(other.node_) {
    if (node_) node_->retain();
  }
  task_ref(task_ref&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  task_ref& operator=(task_ref other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~task_ref() {
    if (node_) node_->release();
  }
  task_node* get() const noexcept { return node_; }
  task_node* operator->() const noexcept { return node_; }
  explicit operator bool() const noexcept { return node_ != nullptr; }

 private:
  task_node* node_ = nullptr;
};

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <caf/actor.hpp>
#include <carom/detail/pool_access.hpp>
#include <carom/pool_info.hpp>
#include <carom/pool_options.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "runtime/admission.hpp"
#include "runtime/fork_mark.hpp"
#include "runtime/submit_queue.hpp"

namespace carom::actors {
class supervisor;
}

namespace carom::detail {

/// Unique in this process, from 1.

/// What the threads of the application share with a pool's supervisor.
class pool_handle : public std::enable_shared_from_this<pool_handle> {
 public:
  explicit pool_handle(const pool_options& options);
  ~pool_handle();

  /// Set before the first submission.
  void attach(caf::actor supervisor, std::shared_ptr<void> runtime);

  /// Takes a reference of its own. Throws pool_closed, queue_full.
  void submit(const task_ref& task);
  /// The same, waiting for room no longer than `timeout`; false if none came.
  bool submit(const task_ref& task, std::optional<std::chrono::nanoseconds> timeout);
  /// The same without waiting; false if there is no room.
  bool try_submit(const task_ref& task);
  /// As many of `tasks`, which nobody else knows yet, as can be submitted in one go, at least one;
  /// says how many. Throws as `submit`, none being taken then.
  std::size_t submit(std::span<const task_ref> tasks);
  void close();
  void terminate();
  /// False if `timeout` passes first. Throws carom::error where waiting makes no sense.
  bool join(std::optional<std::chrono::nanoseconds> timeout);
  /// Ends the pool whatever was called before; does not wait on the loop thread.
  void destroy() noexcept;

  // For the supervisor, on the loop.
  submit_queue& inbox() noexcept { return inbox_; }
  runtime::admission& room() noexcept { return room_; }
  /// No more tasks from now on; `why` is what submitters are told.
  void refuse(std::string why);
  /// What is known of a pool that is over.
  struct record {
    pool_metrics metrics;
    bool started_ok = true;
  };
  /// The supervisor answers no more questions.
  void leave(const record& last);
  record left() const;
  /// The last worker is gone.
  void finished();

  /// False in a forked copy of the pool's process, where nothing of it ever happens.
  bool of_this_process() const noexcept { return mark_.original(); }
  /// Whether submitters are turned away.
  bool refuses() const noexcept { return refusing_.load(); }
  /// Has the supervisor answer on the loop, and waits for it; on the loop thread, here and now.
  /// False if the pool is over.
  bool ask(const std::function<void(actors::supervisor&)>& question);
  /// A descriptor that is readable when tasks have ended since it was read (eventfd(2)).
  int completion_fd();
  /// For the supervisor: tasks have ended.
  void tell_completion() noexcept;

  int processes() const noexcept { return processes_.load(std::memory_order_relaxed); }
  void set_processes(int processes) noexcept {
    processes_.store(processes, std::memory_order_relaxed);
  }
  std::uint32_t id() const noexcept { return id_; }
  caf::actor supervisor() const;

  /// The supervisor with what must stay while it is used; empty once the pool is destroyed.
  struct contact {
    std::shared_ptr<void> runtime;
    caf::actor supervisor;  // goes first
  };
  contact reach() const;

  /// The pool with that id, if it is there.
  static std::shared_ptr<pool_handle> find(std::uint32_t id);
  void enlist();

 private:
  [[noreturn]] void throw_closed() const;
  void check_open() const;
  void hand_over(const task_ref& task, std::size_t bytes);
  bool push(task_node* newest, task_node* oldest) noexcept;

  std::atomic<int> processes_;
  const overflow overflow_;
  const runtime::fork_mark mark_;
  const std::uint32_t id_;
  submit_queue inbox_;
  runtime::admission room_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  caf::actor supervisor_;
  std::shared_ptr<void> runtime_;
  std::string refusal_;
  record left_;
  std::atomic<int> completion_fd_{-1};
  std::atomic<bool> refusing_ = false;
  bool finished_ = false;
};

}  // namespace carom::detail

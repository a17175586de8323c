// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <carom/detail/queue_access.hpp>
#include <cstdint>
#include <memory>

#include "runtime/host_runtime.hpp"
#include "runtime/queue_client.hpp"
#include "runtime/queue_host.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::detail {

/// What a process has of a queue: the descriptors that travel, and, once it uses the queue, a
/// client. There is one for each queue in a process, so that all that the process puts keeps its
/// order; in a forked copy of the process it begins anew.
class queue_handle : public std::enable_shared_from_this<queue_handle> {
 public:
  struct description {
    runtime::unique_fd door;        // to knock at
    runtime::unique_fd host_pidfd;  // the process that the host is in
    std::uint64_t maxsize = 0;
    bool joinable = false;
  };

  /// For a queue that begins here.
  static std::shared_ptr<queue_handle> begin(description of,
                                             std::shared_ptr<runtime::queue_host> here,
                                             std::shared_ptr<runtime::host_runtime> loop);
  /// The handle that this process has of that queue, or a new one. Throws encoding_error if the
  /// descriptors are no queue's.
  static std::shared_ptr<queue_handle> find_or_make(description of);
  ~queue_handle();

  /// This process's client, connected when it is first asked for. Throws process_error.
  runtime::queue_client& client();

  const description& what() const noexcept { return what_; }
  std::uint64_t id() const noexcept { return id_; }
  /// Null unless the queue's host is in this process; used on the loop only.
  std::shared_ptr<runtime::queue_host> here() const;
  runtime::host_runtime* loop() const noexcept { return loop_.get(); }
  void cancel_join_thread() noexcept { join_thread_cancelled_.store(true); }
  bool join_thread_cancelled() const noexcept { return join_thread_cancelled_.load(); }

 private:
  struct registry;

  queue_handle(description of, std::uint64_t id, registry& owner,
               std::shared_ptr<runtime::queue_host> here,
               std::shared_ptr<runtime::host_runtime> loop);
  bool original() const noexcept;
  runtime::queue_client& connect();

  description what_;
  const std::uint64_t id_;  // the inode of the door
  registry* owner_;
  std::shared_ptr<runtime::queue_host> here_;
  std::shared_ptr<runtime::host_runtime> loop_;
  std::atomic<runtime::queue_client*> client_{nullptr};  // owned
  std::atomic<bool> join_thread_cancelled_{false};
};

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <carom/process.hpp>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/host_runtime.hpp"
#include "runtime/process_body.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// A process that this one starts. What becomes of it comes on the loop; who waits, waits on a word
/// that the loop changes.
class child_process final : public detail::process_body,
                            public host_runtime::worker_events,
                            public std::enable_shared_from_this<child_process> {
 public:
  /// Throws std::invalid_argument.
  child_process(packed_call call, process_options options);
  ~child_process() override;

  std::string name() override;
  void set_name(std::string name) override;
  bool daemon() override;
  void set_daemon(bool daemon) override;
  void start() override;
  bool join(std::optional<std::chrono::nanoseconds> timeout) override;
  void signal(int number) override;
  void terminate_controlled() override;
  bool controlled_termination() override { return controlled_; }
  bool is_alive() override;
  pid_t pid() override { return pid_; }
  std::optional<int> exitcode() override;
  int sentinel() override;
  std::string authkey() override;
  void set_authkey(std::string key) override;
  void close() override;

  /// Before it starts: it is carom's own, to see whether it comes up. Nothing of the user's runs in
  /// it, and it is none of this process's active children.
  void make_probe() noexcept { probe_ = true; }
  bool is_probe() const noexcept { return probe_; }
  /// The owner lets go: see ~process.
  void abandon() noexcept;

  /// Children of this process that have not ended, the oldest first.
  static std::vector<std::shared_ptr<child_process>> active();
  /// Terminates this process's daemons and joins its other children.
  static void end_all() noexcept;

 private:
  enum stage : std::uint32_t { made, starting, failed, running, ended };
  using deadline = std::optional<std::chrono::steady_clock::time_point>;

  /// None if it lies beyond what the clock can say.
  static deadline after(std::optional<std::chrono::nanoseconds> timeout);

  void forked(std::uint64_t id, pid_t pid, unique_fd pidfd) override;
  void fork_failed(std::uint64_t id, int error) override;
  void exited(std::uint64_t id, const exit_info& info) override;
  void contact_lost(std::uint64_t id) override;

  bool is_owner() const noexcept { return ::getpid() == owner_; }
  void check_owner() const;
  void check_started() const;
  void check_made(const char* what) const;
  std::string label() const;
  void run_start();
  void write_messages(channel& to);
  void await_answer(channel& from);
  void take_back_start() noexcept;
  void wait_while_starting() noexcept;
  bool wait_for_end(const deadline& until, bool in_a_task);
  void settle(stage how);

  const pid_t owner_;
  packed_call call_;  // until it has been started
  std::string identity_;
  bool probe_ = false;

  mutable std::mutex mutex_;
  process_options options_;
  std::optional<std::string> authkey_;
  bool closed_ = false;
  exit_info exit_;
  unique_fd pidfd_;
  /// While it runs.
  std::shared_ptr<host_runtime> runtime_;
  std::unique_ptr<loop::watch> watch_;  // the loop's
  std::unique_ptr<loop::timer> look_again_;
  unique_fd last_pidfd_;

  std::uint64_t id_ = 0;
  int error_ = 0;
  std::atomic<std::uint32_t> stage_{made};
  std::atomic<pid_t> pid_{0};
  std::atomic<bool> controlled_{false};
};

}  // namespace carom::runtime

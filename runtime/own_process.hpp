// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/detail/code.hpp>
#include <carom/start_method.hpp>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "serialization/worker_messages.hpp"

namespace carom::runtime {

/// What this process is to carom, and what its children will inherit. A forked copy starts with a
/// copy that is its own.
class own_process {
 public:
  static own_process& instance();

  /// In a child that carom has made, before anything else asks: it is what its starter says.
  static void become(serialization::origin_record told);
  /// Where this process holds a pidfd of the process that started it, `parent`; said before
  /// `become`.
  static void set_parent_pidfd(pid_t parent, int pidfd) noexcept;

  std::string name();
  void set_name(std::string name);
  bool daemon();
  std::string authkey();
  void set_authkey(std::string key);

  struct parent {
    pid_t pid = 0;
    std::string name;
    int pidfd = -1;  // this process's, for ever; -1 if there is none to be had
  };
  std::optional<parent> started_by();

  /// "Process-2:1", and "2:1".
  struct child_name {
    std::string name;
    std::string identity;
  };
  child_name name_next_child();
  /// What a child is told of this process; its own fields are the caller's to fill in.
  serialization::origin_record origin_of_child();

  start_method method() noexcept { return method_.load(std::memory_order_relaxed); }
  /// False if it was set before and `force` is not.
  bool set_method(start_method method, bool force);

  void at_exit(std::function<void()> f);
  /// Takes them all out and runs them, the last one first.
  void run_at_exit();
  void after_fork(detail::code_pointer f);
  void run_after_fork();

 private:
  own_process() = default;

  std::mutex mutex_;
  pid_t pid_ = 0;
  std::string name_ = "MainProcess";
  std::string identity_;
  bool daemon_ = false;
  std::optional<parent> parent_;
  std::string authkey_;
  unsigned children_ = 0;
  std::atomic<start_method> method_{start_method::forkserver};
  bool method_set_ = false;
  std::vector<std::function<void()>> at_exit_;
  std::vector<detail::code_pointer> after_fork_;
};

/// Has `end_in_order` run when this process exits; once. For processes that carom did not make.
void install_exit_guard();

/// The orderly end of this process: what `at_exit` was given, then its children. Runs once.
void end_in_order() noexcept;

/// Writes out what is buffered and leaves, without what a copied process would destroy.
[[noreturn]] void flush_and_leave(int status) noexcept;

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/task_node.hpp>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/time_limits.hpp"
#include "runtime/loop.hpp"
#include "runtime/unique_fd.hpp"
#include "runtime/worker_link.hpp"

namespace carom::actors {

/// One place of a pool and the worker that sits there: its link and the loop's watches on it.
class seat final : runtime::worker_link::listener {
 public:
  /// Hears of the worker; called on the loop.
  struct owner {
    virtual void results_waiting(seat& from) = 0;
    virtual void worker_ready(seat& from) = 0;
    virtual void worker_gone(seat& from) = 0;
    virtual void worker_corrupt(seat& from, const char* what) = 0;

   protected:
    ~owner() = default;
  };

  /// Throws std::system_error.
  seat(std::uint32_t index, std::uint64_t id, const serialization::setup_message& setup,
       runtime::loop& events, owner& to);

  std::uint32_t index() const noexcept { return index_; }
  std::uint64_t id() const noexcept { return id_; }
  pid_t pid() const noexcept { return pid_; }
  runtime::worker_link& link() noexcept { return link_; }
  /// Of the worker itself, whoever tells of its end.
  int pidfd() const noexcept { return own_ ? own_->get() : pidfd_.get(); }

  /// The worker is there; `pidfd` tells of its end, if there is one. One that has a guardian, whose
  /// pidfd that is, has its `own` beside that.
  void sit(pid_t pid, runtime::unique_fd pidfd, std::optional<runtime::unique_fd> own = {});
  /// Ready, and known by its pid.
  bool up() const noexcept { return ready_ && pid_ != 0; }
  /// What its initializer threw; empty if it did not.
  const std::string& start_error() const noexcept { return start_error_; }

  /// Reads what the channel holds; after a death, the last of it.
  void read_channel();
  /// Watches the channel for room while messages wait.
  void watch_writable();

  bool active = false;         // in the supervisor's list of polled seats
  bool touched = false;        // in its list of unpublished ones
  bool buried = false;         // it is dead: nothing is given to it
  bool ordered = false;        // its death was ordered
  std::string broken;          // how it broke the rules, if it did
  std::string cause;           // why it was ended, if its death is to count
  std::uint32_t observed = 0;  // tasks under way here whose start is to be told

  /// What the clock says about it; see supervisor_clock.cpp.
  struct watch_state {
    std::int64_t born_ns = 0;
    std::int64_t look_at_ns = never_ns;    // nothing can have happened before
    std::int64_t signal_at_ns = never_ns;  // the first signal of its end
    std::int64_t kill_at_ns = never_ns;    // the last
    bool to_be_signalled = false;          // the first signal has not been sent yet
    int kill_signal = 0;
    std::uint64_t soft_key = 0;  // what was told to end softly
    std::int64_t soft_signal_at_ns = never_ns;
    std::int64_t soft_pause_ns = 0;
    std::uint64_t stood_at = UINT64_MAX;  // the task before which it stands still
    std::int64_t stood_since_ns = 0;
    runtime::unique_fd statm;
  } watch;

  /// A chunk that was stopped from here: what the item that ran is to end in, and what those behind
  /// it; null: they run elsewhere.
  struct verdict {
    std::uint64_t position;
    std::exception_ptr error;
    std::exception_ptr rest;
  };
  std::optional<verdict> stopped;

 private:
  void worker_ready() override;
  void worker_start_failed(std::span<const std::byte> exception) override;
  void worker_rang() override;
  void worker_logged(int level, const std::string& text) override;
  void worker_corrupt(const char* what) override;
  template <class F>
  void guarded(const char* otherwise, F&& f) noexcept;

  std::uint32_t index_;
  std::uint64_t id_;
  runtime::loop* events_;
  owner* owner_;
  runtime::worker_link link_;
  pid_t pid_ = 0;
  runtime::unique_fd pidfd_;
  std::optional<runtime::unique_fd> own_;
  bool ready_ = false;
  bool has_initializer_;
  std::string start_error_;
  std::string log_name_;  // empty unless the worker may log here
  std::unique_ptr<runtime::loop::watch> readable_;
  std::unique_ptr<runtime::loop::watch> writable_;
  std::unique_ptr<runtime::loop::watch> death_;
  std::unique_ptr<runtime::loop::timer> retry_;  // while what is to be sent lacks more than room
  bool retries_ = false;
};

/// A dead worker whose exit status is awaited, and the tasks that died with it.
struct obituary {
  pid_t pid = 0;
  std::uint32_t index = 0;
  std::string cause;
  std::string backtrace;
  std::uint64_t fault_address = 0;
  bool gives_up = false;
  bool was_up = false;
  bool ordered = false;
  struct loss {
    detail::task_node* task;
    std::int64_t started_ns;
    std::int64_t died_ns;
    std::uint64_t last_item;     // of a chunk: up to and with this one
    std::exception_ptr error{};  // of a chunk that was stopped; null otherwise
    std::exception_ptr rest{};   // of what stands behind the item, if that is to end too
  };
  std::vector<loss> lost;
  std::int64_t since_ns = 0;
};

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/cpu_count.hpp>
#include <carom/detail/async_access.hpp>
#include <carom/detail/process_entry.hpp>
#include <carom/export.hpp>
#include <carom/start_method.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace carom {

namespace detail {
class process_body;
}

/// How a process is made. An aggregate: `process p({.name = "reader"}, f, arguments…)`.
struct process_options {
  /// By default "Process-N", and "Process-N:M" for the M-th child of that one.
  std::string name{};
  /// A daemon is terminated when the process that started it ends; any other is waited for. By
  /// default as that process is itself. Daemons may have children.
  std::optional<bool> daemon{};
  carom::start_method start_method = get_start_method();
  /// start_method::spawn only: how long the program may take until it has called `carom::init`.
  std::chrono::nanoseconds start_timeout = std::chrono::seconds(60);
  /// A daemon that is terminated by its handle's destructor, or by the end of the process that
  /// started it, gets SIGKILL when it is still there after so long.
  std::chrono::nanoseconds kill_grace = std::chrono::milliseconds(100);
};

/// A process, as seen from another or from itself. Copies mean the same process. A handle decides
/// nothing over the process's life; `carom::process` does. All members are thread-safe. Used in a
/// forked copy of the process that started it, whatever would act on it or wait for it is
/// process_error; so is every use of an empty handle.
class CAROM_API process_handle {
 public:
  process_handle() noexcept = default;

  explicit operator bool() const noexcept { return body_ != nullptr; }

  std::string name() const;
  /// Before `start`, and for `current_process()`; otherwise process_error.
  void set_name(std::string name);
  bool daemon() const;
  /// Before `start`; otherwise process_error.
  void set_daemon(bool daemon);

  /// Runs the function in a new process and returns once that is there; for start_method::spawn
  /// once it has called `carom::init` and found the function. Throws process_error on the second
  /// call, and if the system makes no process (then it may be called again); start_method_error if
  /// processes cannot be made that way, or the program does not call `carom::init` in time;
  /// unknown_task if the program of set_executable does not have the function.
  void start();

  /// Waits until the process has ended. Throws process_error for a process that was not started
  /// or is not this one's child (itself: it would wait for ever), on the loop thread, or after
  /// `close`. In a pool's task it ends in soft_time_limit_exceeded when that limit passes.
  void join() const { (void)join_for(std::nullopt); }
  /// The same for at most `timeout`; says whether it has ended.
  template <class Rep, class Period>
  bool join(std::chrono::duration<Rep, Period> timeout) const {
    return join_for(detail::to_nanoseconds(timeout));
  }

  /// Has its process group get SIGTERM, or SIGKILL: it and what it started, but for what has left
  /// its group; fork server and descendants end with it in any case. Nothing for one that has
  /// ended. Returns at once. Throws process_error for one that was not started.
  void terminate() const;
  void kill() const;
  /// `terminate()`, and `controlled_termination()` is true from then on: whoever looks at the exit
  /// code can tell that the end was wanted.
  void terminate_controlled() const;
  bool controlled_termination() const;

  bool is_alive() const;
  /// Its process id, 0 before `start` (billiard: pid, ident).
  pid_t pid() const;
  pid_t ident() const { return pid(); }
  /// Nothing until it has ended; then its exit status, or minus the signal that it died of: what
  /// the function returns does not count, it is 0 then; 1 when it threw (the exception is logged to
  /// standard error); n when it called exit(n). 255 if nobody could tell how it ended, as when its
  /// fork server was killed together with it. `human_status` puts it in words.
  std::optional<int> exitcode() const;
  /// A pidfd (pidfd_open(2)) that becomes readable when the process ends: for poll and `wait`. It
  /// is the handle's, valid until `close` or until the last handle is gone. Throws process_error
  /// before `start` and after `close`.
  int sentinel() const;
  /// The key that connections authenticate with: random, made once and inherited from process to
  /// process. Never shown in logs.
  std::string authkey() const;
  /// Before `start`, and for `current_process()`, whose children inherit it from then on.
  void set_authkey(std::string key);

  /// Gives up the sentinel and all that this process holds for it. Throws process_error while it
  /// runs. What is known stays known: name, pid, exitcode.
  void close() const;

  /// Whether both mean the same process.
  friend bool operator==(const process_handle& a, const process_handle& b) noexcept {
    return a.same(b);
  }

 protected:
  explicit process_handle(std::shared_ptr<detail::process_body> body) noexcept
      : body_(std::move(body)) {}

 private:
  friend struct detail::process_access;
  bool join_for(std::optional<std::chrono::nanoseconds> timeout) const;
  bool same(const process_handle& other) const noexcept;
  detail::process_body& body() const;

  std::shared_ptr<detail::process_body> body_;
};

/// A function that runs in a process of its own, and the owner of that process (billiard: Process).
/// What may be run, and how arguments travel, is as for `pool::apply_async`; the function may
/// return anything, which is dropped. The child leads a process group, reads /dev/null, and ends,
/// with all that it has started, when the process that started it is gone, however that ended.
class CAROM_API process : public process_handle {
 public:
  /// Packs `f` and `args` now; `start` runs them. Throws encoding_error if an argument cannot be
  /// packed, std::invalid_argument for options out of range.
  template <class F, class... As>
  requires(!std::is_base_of_v<process_handle, std::remove_cvref_t<F>> &&
           !std::is_same_v<std::remove_cvref_t<F>, process_options>) explicit process(F&& f,
                                                                                      As&&... args)
      : process(detail::pack_process_call(std::forward<F>(f), std::forward<As>(args)...), {}) {}
  template <class F, class... As>
  explicit process(process_options options, F&& f, As&&... args)
      : process(detail::pack_process_call(std::forward<F>(f), std::forward<As>(args)...),
                std::move(options)) {}

  process(process&& other) noexcept = default;
  process& operator=(process&& other) noexcept;
  /// Of a running process: joins it; a daemon is terminated, killed after `kill_grace`, and waited
  /// for. On the loop thread, where nothing may wait, and in a forked copy it does neither; the
  /// process is then looked after at the end of this one.
  ~process();

 private:
  process(packed_call call, process_options options);
};

/// This process. `name()` is "MainProcess" where carom did not start it, "pool-0" in the first
/// worker of a pool of that name; `is_alive()` is true, `exitcode()` nothing. Thread-safe.
CAROM_API process_handle current_process();

/// The process that started this one, by carom: not the fork server, which is its parent for the
/// operating system. Knows name, pid, is_alive, join and sentinel. Nothing in a process that carom
/// did not start. Thread-safe.
CAROM_API std::optional<process_handle> parent_process();

/// The processes that this one has started by carom and that have not ended, oldest first; no
/// pool's workers. Thread-safe.
CAROM_API std::vector<process_handle> active_children();

/// An exit code in words: "signal 9 (SIGKILL)", "exitcode 3".
CAROM_API std::string human_status(int exitcode);

/// The signal that this process gets when its parent dies; 0 for none. Throws std::system_error.
CAROM_API int get_pdeathsig();
/// Has this process get `signal` when its parent dies; 0 takes it back. The operating system's
/// parent is meant: in what carom's fork server made that is the fork server, with which nothing
/// needs to be done, since all of it ends with the process that started it. Call it on the main
/// thread of the process (process_error elsewhere): the kernel remembers who asked. If the parent
/// died meanwhile the signal is raised at once. Throws std::invalid_argument for no signal.
CAROM_API void set_pdeathsig(int signal);

}  // namespace carom

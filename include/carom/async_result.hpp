// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <signal.h>

#include <carom/detail/async_access.hpp>
#include <carom/detail/task_node.hpp>
#include <carom/executor.hpp>
#include <carom/export.hpp>
#include <chrono>
#include <coroutine>
#include <functional>
#include <future>
#include <optional>

namespace carom {

/// A handle on a task's outcome (billiard: ApplyResult, MapResult). Copies share the task;
/// dropping the last one does not cancel it. All members are thread-safe. A default-made handle
/// has no task: `valid()` is false and all else throws std::logic_error.
template <class R>
class async_result {
 public:
  async_result() = default;

  bool valid() const noexcept { return static_cast<bool>(task_); }

  /// Waits and returns the task's value, as a copy made for this call, or throws what the task
  /// ended with. Throws timeout_error if `timeout` passes first (the task goes on), and, as `wait`,
  /// pool_closed in a forked copy of the process that has submitted: nothing ends there. In a task,
  /// both are checkpoints where they have to wait: soft_time_limit_exceeded.
  R get() const {
    node().wait(std::nullopt);
    return value();
  }
  template <class Rep, class Period>
  R get(std::chrono::duration<Rep, Period> timeout) const {
    if (!wait(timeout)) detail::throw_get_timeout(node());
    return value();
  }

  /// Waits until the task has ended; says whether it has when `timeout` is over.
  void wait() const { node().wait(std::nullopt); }
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) const {
    return node().wait(detail::to_nanoseconds(timeout));
  }

  /// Whether the task has ended, in its value or in an error.
  bool ready() const { return node().settled(); }
  /// Whether it ended in its value. Throws carom::error if it has not ended.
  bool successful() const { return detail::successful(node()); }
  /// Whether a worker has begun it. Asks the pool if the task has not ended; not for hot paths.
  bool accepted() const { return detail::accepted_by(node()) != 0; }
  /// The process id of the worker that began the task (the last one, after a retry); 0 if none.
  pid_t worker_pid() const { return detail::accepted_by(node()); }
  /// Ends the task if no worker has begun it; says whether it did. If it did the task never runs,
  /// and `get` throws `terminated`. Certain: no task that was cancelled runs, none that runs was
  /// cancelled. A map is cancelled only as a whole.
  bool cancel() const { return detail::cancel(node()); }
  /// Ends the task in `terminated`, and the worker that runs it, with all that it has started, by
  /// `signal`, and SIGKILL after pool_options::kill_grace; the worker is replaced. Says whether the
  /// task had not ended by itself. Throws std::invalid_argument for a signal that does not exist.
  bool terminate(int signal = SIGTERM) const { return detail::terminate(node(), signal); }
  /// Whether it has passed its soft time limit, however it ended.
  bool soft_time_limit_passed() const { return node().soft_limit_passed(); }
  /// Unique within this process.
  std::uint64_t id() const { return node().id(); }
  /// Gives up the result: its memory is released as soon as it is there; `get` then throws
  /// carom::error.
  void discard() { detail::discard(node()); }

  /// Calls `f(async_result<R>)` once the task has ended: on the pool's loop thread, where `f` must
  /// not block; if the task has ended already, at once in the calling thread. With an executor, the
  /// executor is called there and decides where `f` runs. What `f` throws is logged (billiard:
  /// callback, error_callback).
  template <class F>
  void then(F f) const {
    then(std::move(f), executor{});
  }
  template <class F>
  void then(F f, executor where) const {
    static_assert(std::is_invocable_v<F&, async_result>,
                  "carom: then() takes a function of async_result<R>");
    // Shared, because std::function wants to copy and `f` may be move-only.
    detail::then(node(), std::move(where),
                 [f = std::make_shared<F>(std::move(f)), self = *this] { (*f)(self); });
  }

  /// The same outcome as a std::future.
  std::future<R> to_future() const {
    auto promise = std::make_shared<std::promise<R>>();
    auto future = promise->get_future();
    then([promise](const async_result& done) {
      try {
        if constexpr (std::is_void_v<R>) {
          done.get();
          promise->set_value();
        } else {
          promise->set_value(done.get());
        }
      } catch (...) {
        promise->set_exception(std::current_exception());
      }
    });
    return future;
  }

  /// `co_await` gives what `get` gives; the coroutine resumes where a `then` would run.
  auto operator co_await() const {
    struct awaiter {
      async_result result;
      bool await_ready() const { return result.ready(); }
      void await_suspend(std::coroutine_handle<> waiting) const {
        result.then([waiting](const async_result&) { waiting.resume(); });
      }
      R await_resume() const { return result.get(); }
    };
    return awaiter{*this};
  }

 private:
  friend struct detail::result_access;
  using decoder = R (*)(const detail::task_node&);

  async_result(detail::task_ref task, decoder decode) : task_(std::move(task)), decode_(decode) {}

  detail::task_node& node() const {
    if (!task_) detail::throw_no_task();
    return *task_.get();
  }
  R value() const {
    detail::throw_if_failed(node());
    return decode_(node());
  }

  detail::task_ref task_;
  decoder decode_ = nullptr;
};

}  // namespace carom

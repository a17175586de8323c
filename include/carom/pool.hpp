// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <signal.h>

#include <carom/async_result.hpp>
#include <carom/call.hpp>
#include <carom/detail/pool_access.hpp>
#include <carom/export.hpp>
#include <carom/imap.hpp>
#include <carom/pool_info.hpp>
#include <carom/pool_options.hpp>
#include <carom/result.hpp>
#include <carom/task_options.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <ranges>
#include <type_traits>
#include <vector>

namespace carom::actors {
class supervisor;
}

namespace carom {

/// Whom `pool::shrink` may take away.
enum class shrinking {
  idle_only,  ///< workers that have nothing to do
  drain       ///< busy ones too, once they have finished
};

/// Worker processes that run functions (billiard: Pool). A thin client of a supervisor actor.
/// All members are thread-safe. Submitting after `close` or `terminate`, or once the pool has
/// failed, throws pool_closed; arguments that cannot be packed throw encoding_error at the call,
/// those of `imap` when their turn comes.
class CAROM_API pool {
 public:
  /// Starts the workers; returns before they are ready. Throws std::invalid_argument for options
  /// out of range and start_method_error if workers cannot be made (see carom::init).
  explicit pool(pool_options options = {});
  pool(pool&&) noexcept;
  pool& operator=(pool&&) noexcept;
  /// `terminate()`, then `join()`. In a process forked off the owner it only closes descriptors.
  ~pool();

  /// Runs `f(args...)` in a worker and waits for it.
  template <class F, class... As>
  requires(!std::is_same_v<std::remove_cvref_t<F>, task_options>) auto apply(F&& f, As&&... args) {
    return apply_async(std::forward<F>(f), std::forward<As>(args)...).get();
  }
  template <class F, class... As>
  auto apply(task_options options, F&& f, As&&... args) {
    return apply_async(std::move(options), std::forward<F>(f), std::forward<As>(args)...).get();
  }

  /// Sends `f(args...)` to a worker; the handle gives its outcome. `f` is a function, a lambda
  /// without captures, or a function object with serialize(). Arguments are converted to the
  /// parameter types and packed in the calling thread.
  template <class F, class... As>
  requires(!std::is_same_v<std::remove_cvref_t<F>, task_options>) auto apply_async(F&& f,
                                                                                   As&&... args) {
    auto [task, handle] =
        detail::make_task(access(), std::forward<F>(f), std::forward<As>(args)...);
    detail::submit(access(), task);
    return handle;
  }
  template <class F, class... As>
  auto apply_async(task_options options, F&& f, As&&... args) {
    auto [task, handle] =
        detail::make_task(access(), std::forward<F>(f), std::forward<As>(args)...);
    detail::set_options(*task.get(), std::move(options));
    detail::submit(access(), task);
    return handle;
  }

  /// `f(item)` for every item of a finite range, in order. `chunk` items travel together; 0 means
  /// ceil(items / (4 × processes)). The first error is thrown; the other chunks run on.
  template <class F, std::ranges::input_range Range>
  auto map(F&& f, Range&& items, std::size_t chunk = 0) {
    return map_async(std::forward<F>(f), std::forward<Range>(items), chunk).get();
  }
  template <class F, std::ranges::input_range Range>
  auto map_async(F&& f, Range&& items, std::size_t chunk = 0) {
    return map_async(task_options{}, std::forward<F>(f), std::forward<Range>(items), chunk);
  }
  /// With options: limits, retries and errors are an item's; on_start, deadline and priority a
  /// chunk's.
  template <class F, std::ranges::input_range Range>
  auto map(const task_options& options, F&& f, Range&& items, std::size_t chunk = 0) {
    return map_async(options, std::forward<F>(f), std::forward<Range>(items), chunk).get();
  }
  template <class F, std::ranges::input_range Range>
  auto map_async(const task_options& options, F&& f, Range&& items, std::size_t chunk = 0) {
    return detail::map_async<false>(access(), options, std::forward<F>(f),
                                    std::forward<Range>(items), chunk);
  }

  /// As `map`, for items that are tuples of arguments.
  template <class F, std::ranges::input_range Range>
  auto starmap(F&& f, Range&& items, std::size_t chunk = 0) {
    return starmap_async(std::forward<F>(f), std::forward<Range>(items), chunk).get();
  }
  template <class F, std::ranges::input_range Range>
  auto starmap_async(F&& f, Range&& items, std::size_t chunk = 0) {
    return starmap_async(task_options{}, std::forward<F>(f), std::forward<Range>(items), chunk);
  }
  template <class F, std::ranges::input_range Range>
  auto starmap(const task_options& options, F&& f, Range&& items, std::size_t chunk = 0) {
    return starmap_async(options, std::forward<F>(f), std::forward<Range>(items), chunk).get();
  }
  template <class F, std::ranges::input_range Range>
  auto starmap_async(const task_options& options, F&& f, Range&& items, std::size_t chunk = 0) {
    return detail::map_async<true>(access(), options, std::forward<F>(f),
                                   std::forward<Range>(items), chunk);
  }

  /// As `map`, with the outcome of every item: a std::vector of result<R>; an item's error does
  /// not keep others from running.
  template <class F, std::ranges::input_range Range>
  auto try_map(F&& f, Range&& items, std::size_t chunk = 0) {
    return try_map(task_options{}, std::forward<F>(f), std::forward<Range>(items), chunk);
  }
  template <class F, std::ranges::input_range Range>
  auto try_map(const task_options& options, F&& f, Range&& items, std::size_t chunk = 0) {
    return detail::try_map(access(), options, std::forward<F>(f), std::forward<Range>(items),
                           chunk);
  }

  /// `f(item)` for the items of a range, which may be endless, as a lazy input range in the order
  /// of the items. A bounded number is under way at a time. See imap_range.
  template <class F, std::ranges::input_range Range>
  auto imap(F&& f, Range&& items, std::size_t chunk = 1) {
    return imap(task_options{}, std::forward<F>(f), std::forward<Range>(items), chunk);
  }
  template <class F, std::ranges::input_range Range>
  auto imap(const task_options& options, F&& f, Range&& items, std::size_t chunk = 1) {
    return detail::make_imap<imap_order::ordered>(access(), options, std::forward<F>(f),
                                                  std::forward<Range>(items), chunk);
  }
  /// The same in the order of completion.
  template <class F, std::ranges::input_range Range>
  auto imap_unordered(F&& f, Range&& items, std::size_t chunk = 1) {
    return imap_unordered(task_options{}, std::forward<F>(f), std::forward<Range>(items), chunk);
  }
  template <class F, std::ranges::input_range Range>
  auto imap_unordered(const task_options& options, F&& f, Range&& items, std::size_t chunk = 1) {
    return detail::make_imap<imap_order::unordered>(access(), options, std::forward<F>(f),
                                                    std::forward<Range>(items), chunk);
  }

  /// No more tasks are taken; those submitted are finished, then the workers leave.
  void close();
  /// No more tasks are taken; every task that has not ended ends in `terminated`; the workers and
  /// what they started are ended.
  void terminate();
  /// Waits until all workers are gone. Throws carom::error if neither `close` nor `terminate` was
  /// called before, or on the loop thread, and timeout_error when `timeout` passes first.
  void join();
  template <class Rep, class Period>
  void join(std::chrono::duration<Rep, Period> timeout) {
    join_for(detail::to_nanoseconds(timeout));
  }

  /// Number of worker processes that the pool keeps.
  int processes() const noexcept;

  /// `n` workers more, at least 1, at most `autoscale.max` in all. Throws std::invalid_argument,
  /// and pool_closed once the pool has ended, as the next three.
  void grow(int n = 1);
  /// `n` workers less; one stays, or `autoscale.min`. Idle ones go, or such as have not started
  /// yet. If those are fewer, process_error says so and nothing changes; with shrinking::drain busy
  /// ones go too, each when it has finished.
  void shrink(int n = 1, shrinking how = shrinking::idle_only);
  /// Replaces all workers, one after the other: the new one is there before the old one finishes
  /// its last task. Returns at once.
  void restart();
  /// Ends what worker `pid` runs, as async_result::terminate; says whether it ran anything. Throws
  /// process_error if no worker of this pool has that process id (billiard: silent).
  bool terminate_job(pid_t pid, int signal = SIGTERM);

  /// The workers as they are now, and what each runs; none once the pool has ended.
  std::vector<worker_info> workers() const;
  /// What has been counted; of a pool that has ended, until then.
  pool_metrics metrics() const;
  /// Whether no worker has died, or failed, before it was ready. One that had to wait for
  /// descriptors, memory or a process has not failed. A pool that has ended still knows.
  bool did_start_ok() const;
  /// For a foreign event loop: a descriptor that becomes readable when tasks have ended; read 8
  /// bytes from it, then look at results (eventfd(2)). It stays the pool's.
  int completion_fd();

 private:
  void ask(const std::function<void(actors::supervisor&)>& question) const;
  void join_for(std::optional<std::chrono::nanoseconds> timeout);
  detail::pool_handle& access() const;

  std::shared_ptr<detail::pool_handle> handle_;
};

}  // namespace carom

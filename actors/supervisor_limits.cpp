// SPDX-License-Identifier: BSL-1.0
#include <signal.h>

#include <algorithm>
#include <carom/detail/map_state.hpp>
#include <carom/errors.hpp>
#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "actors/callbacks.hpp"
#include "actors/supervisor.hpp"
#include "runtime/clock.hpp"
#include "runtime/futex.hpp"
#include "runtime/pidfd.hpp"

// Time limits of tasks, workers that hang, and how what runs is ended.
namespace carom::actors {

using detail::task_node;

namespace {

constexpr std::int64_t ms = 1'000'000;
/// A soft limit's signal may come just before a system call blocks: it is repeated, ever more
/// rarely, until the task has noticed.
constexpr std::int64_t first_soft_pause_ns = 2 * ms;
constexpr std::int64_t longest_soft_pause_ns = 250 * ms;
/// What ran has just ended, and its result is about to come.
constexpr std::int64_t soon_ns = ms / 10;
/// Whether a task has begun that waits for another one is looked at this often at most, however
/// short its limit is.
constexpr std::int64_t shortest_look_ns = ms;

std::int64_t look_for_start(std::int64_t now, const time_limits& limits) {
  return after_ns(now, std::max(limits.first_ns(), shortest_look_ns));
}

time_limit_info about(const task_node& task, std::int64_t limit_ns, std::int64_t ran_ns,
                      pid_t pid) {
  time_limit_info info;
  info.task_name = task_label(task);
  info.task_id = task.id();
  info.limit = std::chrono::nanoseconds(limit_ns);
  info.run_time = std::chrono::nanoseconds(ran_ns);
  info.pid = pid;
  return info;
}

}  // namespace

// --- time limits ---------------------------------------------------------------------------------

time_limits supervisor::limits_of(const task_node& task) const {
  time_limits limits = pool_limits_;
  if (task.time_limit_ns() != 0) limits.hard_ns = task.time_limit_ns();
  if (task.soft_time_limit_ns() != 0) limits.soft_ns = task.soft_time_limit_ns();
  return limits;
}

std::int64_t supervisor::look_at_tasks(seat& at, std::int64_t now) {
  drain(at);
  const index w = at.index();
  if (!at.broken.empty() || core_.live(w) == 0) return never_ns;
  auto& ring = at.link().tasks();
  std::int64_t again = never_ns;
  bool running = false;
  const std::uint64_t tail = core_.tail(w);
  std::uint64_t first = ~tail;  // that it has not begun; of none, another each time it gets one
  for (std::uint64_t position = std::max(core_.first(w), ring.head()); position < tail;
       ++position) {
    auto* task = static_cast<task_node*>(core_.at(w, position));
    if (!task) continue;
    const auto claim = ring.look(position);
    if (claim.state == runtime::claim_state::running) {
      running = true;
      again = std::min(again, look_at_running(at, position, *task, claim.started_ns, now));
      if (core_.state(w) == supervisor_core::worker_state::doomed) return again;
    } else {
      if (claim.state == runtime::claim_state::queued) first = std::min(first, position);
      again = std::min(again, look_for_start(now, limits_of(*task)));
    }
  }
  auto& watch = at.watch;
  if (running) {
    watch.stood_at = UINT64_MAX;
    return std::min(again, after_ns(now, claim_deadline_ns_));
  }
  // It has tasks and runs none: it is between two, or it hangs, which shows in the task that it
  // does not begin. Its ring's head says less: it also stands still while there is nothing to do.
  if (watch.stood_at != first) {
    watch.stood_at = first;
    watch.stood_since_ns = now;
  }
  const std::int64_t hung_at = after_ns(watch.stood_since_ns, claim_deadline_ns_);
  if (now < hung_at) return std::min(again, hung_at);
  // What it has begun just now is not to meet the kill; once all is taken back it can begin
  // nothing.
  take_unbegun(at);
  if (first < tail && core_.live(w) != 0) return std::min(again, now + soon_ns);
  rule_hung(at);
  return never_ns;
}

std::int64_t supervisor::look_at_running(seat& at, std::uint64_t position, task_node& task,
                                         std::int64_t started_ns, std::int64_t now) {
  const time_limits limits = limits_of(task);
  if (!limits.any()) return never_ns;
  std::optional<std::uint64_t> item;
  if (task.chunk()) {
    const auto running = at.link().tasks().running_item(position);
    if (!running) return look_for_start(now, limits);
    item = running->item;
    started_ns = running->started_ns;
  }
  const std::uint64_t key = runtime::soft_key(position, item.value_or(0));
  const auto verdict = judge(limits, started_ns, at.watch.soft_key == key, now);
  std::int64_t again = verdict.look_again_ns;
  switch (verdict.what) {
    case limit_verdict::action::none: break;
    case limit_verdict::action::soft:
      pass_soft_limit(at, position, item.value_or(0), task, now);
      break;
    case limit_verdict::action::hard:
      if (!pass_hard_limit(at, position, item, task, started_ns, now)) return now + soon_ns;
      return at.watch.look_at_ns;
  }
  auto& watch = at.watch;
  if (watch.soft_key == key &&
      at.link().header().soft_noticed.load(std::memory_order_acquire) != key) {
    if (now >= watch.soft_signal_at_ns) {
      runtime::signal_process(at.pidfd(), SIGUSR1);
      watch.soft_signal_at_ns = after_ns(now, watch.soft_pause_ns);
      watch.soft_pause_ns = std::min(2 * watch.soft_pause_ns, longest_soft_pause_ns);
    }
    again = std::min(again, watch.soft_signal_at_ns);
  }
  return again;
}

bool supervisor::tell_timeout(seat& at, task_node& task, bool soft, std::int64_t limit_ns) {
  const auto* extra = task.find_extra();
  if (!options_.on_timeout && !(extra && extra->on_timeout)) return false;
  tell([this, kept = (task.retain(), detail::task_ref(&task)),
        event = timeout_event{task.id(), task_label(task), at.pid(), soft,
                              std::chrono::nanoseconds(limit_ns)}] {
    if (options_.on_timeout)
      hand_out([call = options_.on_timeout, event] { call_logged(call, event); });
    if (const auto* own = kept->find_extra(); own && own->on_timeout)
      hand_out([call = own->on_timeout, event] { call_logged(call, event); });
  });
  return true;
}

void supervisor::pass_soft_limit(seat& at, std::uint64_t position, std::uint64_t item,
                                 task_node& task, std::int64_t now) {
  const std::int64_t limit = limits_of(task).soft_ns;
  const std::uint64_t key = runtime::soft_key(position, item);
  ++counts_.soft_timed_out;
  task.pass_soft_limit();
  if (const auto* chunk = task.chunk(); chunk && chunk->parent) chunk->parent->pass_soft_limit();
  auto& watch = at.watch;
  watch.soft_key = key;
  watch.soft_pause_ns = first_soft_pause_ns;
  watch.soft_signal_at_ns = never_ns;
  // As in billiard: the callback first.
  if (!tell_timeout(at, task, true, limit)) {
    begin_soft_limit(at, limit, task_label(task));
    watch.soft_signal_at_ns = now;
    return;
  }
  tell([this, id = at.id(), key, limit, name = task_label(task)] {
    seat* one = seat_of(id);
    if (!one || one->watch.soft_key != key ||
        core_.state(one->index()) == supervisor_core::worker_state::doomed)
      return;
    begin_soft_limit(*one, limit, name);
    one->watch.soft_signal_at_ns = 0;
    look_by(*one, 0);
  });
}

void supervisor::begin_soft_limit(seat& at, std::int64_t limit_ns, const std::string& name) {
  at.link().tasks().pass_soft_limit(at.watch.soft_key, limit_ns, name);
  runtime::futex_wake_all_shared(at.link().header().soft_bell);
}

bool supervisor::pass_hard_limit(seat& at, std::uint64_t position,
                                 std::optional<std::uint64_t> item, task_node& task,
                                 std::int64_t started_ns, std::int64_t now) {
  const std::int64_t limit = limits_of(task).hard_ns;
  const auto error =
      std::make_exception_ptr(time_limit_exceeded(about(task, limit, now - started_ns, at.pid())));
  auto& ring = at.link().tasks();
  const detail::task_ref kept = (task.retain(), detail::task_ref(&task));
  if (!item) {
    if (!stop_running(at, position, task, kill_reason::time_limit, error, true,
                      options_.kill_signal))
      return false;
  } else {
    if (!ring.condemn_item(position, *item)) return false;
    ring.condemn(position);
    tell_timeout(at, task, false, limit);
    // Nothing more can come: what was published is delivered, and the rest is known to the item.
    drain(at);
    // Not if a corrupt worker has said that the whole chunk is done.
    if (core_.ended(at.index(), position) == &task) end_at_item(at, position, *item, task, error);
    take_unbegun(at);
    kill(at, kill_reason::time_limit, &task, options_.kill_signal);
  }
  ++counts_.timed_out;
  return true;
}

void supervisor::end_at_item(seat& at, std::uint64_t position, std::uint64_t item, task_node& task,
                             const std::exception_ptr& error) {
  const auto& chunk = *task.chunk();
  const auto open = at.link().open_items(position);
  if (open.count != 0 && open.first + open.count <= item) take_items(task, open, at.link());
  if (item > chunk.first) {
    worker_lost_info lost;
    lost.pid = at.pid();
    lost.task_name = task_label(task);
    lost.task_id = task.id();
    lost.cause =
        "another item of its chunk passed its time limit before this one's result was "
        "sent";
    fail_items(task, item - 1, std::make_exception_ptr(worker_lost(lost)));
  }
  fail_items(task, item, error);
  if (has_items_left(task))
    enqueue_task(task, true);
  else
    settle(task, detail::outcome_kind::value);
}

// --- ends ----------------------------------------------------------------------------------------

bool supervisor::stop_running(seat& at, std::uint64_t position, task_node& task, kill_reason why,
                              const std::exception_ptr& error, bool whole, int signal) {
  if (!at.link().tasks().condemn(position)) return false;
  const detail::task_ref kept = (task.retain(), detail::task_ref(&task));
  task.set_worker_pid(at.pid());
  if (auto* extra = task.find_extra(); extra && extra->on_start) start_told(at, task);
  // The callback before the end, as with a soft limit.
  if (why == kill_reason::time_limit) tell_timeout(at, task, false, limits_of(task).hard_ns);
  if (task.chunk()) {
    // Its items go on until it is dead; what they publish is still delivered.
    at.stopped = {position, error, whole ? error : nullptr};
  } else {
    core_.ended(at.index(), position);
    settle_error(task, error);
  }
  take_unbegun(at);
  kill(at, why, &task, signal);
  return true;
}

/// What a worker that claims nothing more has not begun runs elsewhere, in the same order.
void supervisor::take_unbegun(seat& from) {
  auto& ring = from.link().tasks();
  std::vector<task_node*> back;
  for (std::uint64_t position = core_.first(from.index()); position < core_.tail(from.index());
       ++position) {
    auto* task = static_cast<task_node*>(core_.at(from.index(), position));
    if (!task || !ring.revoke(position)) continue;
    if (auto* extra = task->find_extra(); extra && extra->on_start && from.observed != 0)
      --from.observed;
    core_.stolen(from.index(), position);
    back.push_back(task);
  }
  for (auto it = back.rbegin(); it != back.rend(); ++it) enqueue_task(**it, true);
}

void supervisor::kill(seat& at, kill_reason why, const task_node* task, int signal) {
  // Nobody has ordered the death of one that hangs: it counts.
  const bool hangs = why == kill_reason::hung;
  core_.condemn(at.index(), hangs);
  if (!hangs) at.ordered = true;
  at.watch.kill_signal = signal;
  if (options_.before_kill)
    tell([this, id = at.id(),
          event = kill_event{at.pid(), static_cast<int>(at.index()), why, task ? task->id() : 0,
                             task ? task_label(*task) : ""}] { ask_before_kill(id, event); });
  else
    signal_after(at, std::chrono::nanoseconds(0));
  later(&supervisor::fill_seats);
}

void supervisor::ask_before_kill(std::uint64_t worker, const kill_event& event) {
  if (!seat_of(worker)) return;  // it was faster
  std::chrono::nanoseconds wait{0};
  try {
    wait = options_.before_kill(event);
  } catch (const std::exception& e) {
    say([&](auto& log) { log.error("before_kill threw: {}", e.what()); });
  } catch (...) {
    say([&](auto& log) { log.error("before_kill threw something that is no std::exception"); });
  }
  if (seat* at = seat_of(worker)) signal_after(*at, wait);
  // The end of the pool waits for no diagnosis, and may have begun.
  if (core_.drained()) advance_shutdown();
}

void supervisor::signal_after(seat& at, std::chrono::nanoseconds wait) {
  const std::int64_t now = runtime::steady_ns();
  at.watch.to_be_signalled = true;
  at.watch.signal_at_ns = after_ns(now, std::max<std::int64_t>(wait.count(), 0));
  look_by(at, look_at_signals(at, now));
}

void supervisor::rule_hung(seat& at) {
  say([&](auto& log) {
    log.error("pool '{}': worker {} has a task and does nothing: it is killed", options_.name,
              at.pid());
  });
  at.cause = "it began no task within pool_options::claim_deadline";
  kill(at, kill_reason::hung, nullptr, SIGKILL);
}

}  // namespace carom::actors

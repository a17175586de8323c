// SPDX-License-Identifier: BSL-1.0
#include <signal.h>

#include <algorithm>
#include <carom/errors.hpp>
#include <chrono>
#include <cstdint>
#include <exception>
#include <string>

#include "actors/callbacks.hpp"
#include "actors/supervisor.hpp"
#include "runtime/clock.hpp"

// What the clock brings: workers that are late, tasks that wait, the pool's size. Limits of tasks
// are in supervisor_limits.cpp, of memory in supervisor_memory.cpp.
// One timer; each seat knows the earliest moment at which anything can be due there, so that a task
// with a limit costs a comparison.
namespace carom::actors {

using detail::task_node;

namespace {

constexpr std::int64_t ms = 1'000'000;

}  // namespace

// --- the timer -----------------------------------------------------------------------------------

void supervisor::due(std::int64_t at_ns) {
  if (at_ns >= watch_armed_ns_ || !watch_timer_) return;
  watch_armed_ns_ = at_ns;
  watch_timer_->arm(
      std::chrono::nanoseconds(std::max<std::int64_t>(at_ns - runtime::steady_ns(), 0)));
}

void supervisor::look_by(seat& at, std::int64_t at_ns) {
  if (at_ns >= at.watch.look_at_ns) return;
  at.watch.look_at_ns = at_ns;
  due(at_ns);
}

void supervisor::look_around() {
  watch_armed_ns_ = never_ns;
  const std::int64_t now = runtime::steady_ns();
  look_at_seats(now);
  // Whatever fails here, the clock goes on.
  unless_it_throws("on the clock", [&] {
    if (weigh_at_ns_ <= now) weigh_workers(now);
    expire_tasks(now);
    begin_delayed(now);
    if (scale_at_ns_ <= now) scale(now);
    fill_seats();
    dispatch();
  });

  for (const auto& one : seats_)
    if (one) due(one->watch.look_at_ns);
  due(weigh_at_ns_);
  due(scale_at_ns_);
  if (!deadlines_.empty()) due(deadlines_.begin()->first.first);
  if (!delayed_.empty()) due(delayed_.begin()->first);
  if (const auto at = core_.next_start_at()) due(std::max(*at, now + ms));
  if (const auto at = core_.next_token_at(now)) due(*at);
}

void supervisor::look_at_seats(std::int64_t now) {
  for (std::size_t w = 0; w < seats_.size(); ++w) {
    seat* const one = seats_[w].get();
    if (!one || one->watch.look_at_ns > now) continue;
    if (!unless_it_throws("looking at a worker", [&] { look(*one, now); }))
      worker_corrupt(*one, "it could not be looked after");
  }
}

void supervisor::look(seat& at, std::int64_t now) {
  using state = supervisor_core::worker_state;
  at.watch.look_at_ns = never_ns;
  std::int64_t again = look_at_signals(at, now);
  const auto is = core_.state(at.index());
  if (is == state::starting)
    again = std::min(again, look_at_start(at, now));
  else if (is == state::ready || is == state::retiring)
    again = std::min(again, look_at_tasks(at, now));
  look_by(at, again);
}

std::int64_t supervisor::look_at_signals(seat& at, std::int64_t now) {
  auto& watch = at.watch;
  if (now >= watch.signal_at_ns && watch.to_be_signalled) {
    watch.signal_at_ns = never_ns;
    watch.to_be_signalled = false;
    watch.kill_at_ns = after_ns(now, options_.kill_grace.count());
    runtime_->host().signal_group(at.id(), watch.kill_signal);
  }
  if (now >= watch.kill_at_ns) {
    watch.kill_at_ns = never_ns;
    if (at.cause.empty()) at.ordered = true;
    runtime_->host().signal_group(at.id(), SIGKILL);
  }
  return std::min(watch.signal_at_ns, watch.kill_at_ns);
}

std::int64_t supervisor::look_at_start(seat& at, std::int64_t now) {
  const std::int64_t deadline = after_ns(at.watch.born_ns, options_.start_timeout.count());
  if (now < deadline) return deadline;
  if (at.cause.empty()) {
    at.cause = "it was not ready within pool_options::start_timeout";
    start_failed_ = true;  // its replacement may be at work before it is dead
    core_.condemn(at.index(), true);
    runtime_->host().signal_group(at.id(), SIGKILL);
    later(&supervisor::fill_seats);
  }
  return never_ns;
}

// --- tasks that wait -----------------------------------------------------------------------------

void supervisor::expire_tasks(std::int64_t now) {
  while (!deadlines_.empty() && deadlines_.begin()->first.first <= now) {
    task_node* const task = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    const auto error = std::make_exception_ptr(
        timeout_error("task " + std::to_string(task->id()) + " '" + task_label(*task) +
                      "' had not begun by its deadline; it will not run"));
    if (task->at.where == task_node::place::worker && take_from_worker(*task)) {
      settle_error(*task, error);
    } else if (task->at.where == task_node::place::queue) {
      withdraw(*task, error);
    } else {
      continue;
    }
    ++counts_.expired;
  }
}

void supervisor::begin_delayed(std::int64_t now) {
  while (!delayed_.empty() && delayed_.begin()->first <= now) {
    task_node* task = delayed_.begin()->second;
    delayed_.erase(delayed_.begin());
    enqueue_task(*task, true);
  }
}

const retry_options& supervisor::retry_rule(const task_node& task) const {
  const auto* extra = task.find_extra();
  return extra && extra->retry ? *extra->retry : options_.retry;
}

bool supervisor::retry(task_node& task) {
  const retry_options& rule = retry_rule(task);
  if (core_.ending() || !rule.on_worker_lost || task.at.attempts >= rule.attempts) return false;
  ++counts_.retried;
  if (rule.backoff.count() <= 0) {
    enqueue_task(task, true);
    return true;
  }
  const int doublings = std::min(task.at.attempts - 1, 30);
  const std::int64_t wait = rule.backoff.count() > (never_ns >> (doublings + 1))
                                ? never_ns
                                : rule.backoff.count() << doublings;
  task.at.where = task_node::place::delayed;
  delayed_.emplace(after_ns(runtime::steady_ns(), wait), &task);
  due(delayed_.begin()->first);
  return true;
}

// --- how many workers ----------------------------------------------------------------------------

void supervisor::scale(std::int64_t now) {
  scale_at_ns_ = never_ns;
  if (!autoscaler_ || !core_.accepts()) return;
  set_target(autoscaler_->look(core_.target(), core_.pending() - withdrawn_, core_.behind(),
                               core_.idle(), core_.serving(), now));
  scale_at_ns_ = after_ns(now, options_.autoscale->interval.count());
}

bool supervisor::let_go_of_spare() {
  bool any = false;
  while (const auto w = core_.next_leaver()) {
    ask_to_leave(*seats_[*w]);
    ++counts_.recycled_workers;
    any = true;
  }
  return any;
}

}  // namespace carom::actors

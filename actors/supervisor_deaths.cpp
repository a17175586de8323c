// SPDX-License-Identifier: BSL-1.0
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <carom/errors.hpp>

#include "actors/callbacks.hpp"
#include "actors/supervisor.hpp"
#include "runtime/clock.hpp"

// Workers' deaths: what they leave behind, what becomes of the tasks they had.
namespace carom::actors {

using detail::task_node;

namespace {

/// How long a dead worker's exit status is waited for; it normally comes within a millisecond.
constexpr std::chrono::milliseconds obituary_after{250};

std::string describe_exit(const runtime::exit_info& info) {
  if (!info.known) return "ended for a reason that nobody could tell";
  if (WIFSIGNALED(info.status)) {
    const char* name = ::sigabbrev_np(WTERMSIG(info.status));
    return std::string("died of SIG") + (name ? name : "?");
  }
  return "exited with status " + std::to_string(WEXITSTATUS(info.status));
}

}  // namespace

void supervisor::bury(seat& dead) {
  const index place = dead.index();
  obituary of;
  of.pid = dead.pid();
  of.index = place;
  of.was_up = dead.up();
  if (!of.was_up && !dead.ordered) start_failed_ = true;
  if (!dead.ordered) ++counts_.died_workers;
  of.ordered = dead.ordered;
  of.since_ns = runtime::steady_ns();

  // What it had published is delivered, what it had said is heard.
  dead.buried = true;
  // Whoever has its channel's end from it may go on talking.
  constexpr int most_shares = 64;
  dead.read_channel();
  for (int more = 1; more < most_shares && dead.link().has_more(); ++more) dead.read_channel();
  if (dead.broken.empty())
    while (drain(dead) != 0) {
    }
  if (!dead.cause.empty()) of.cause = dead.cause;
  if (!dead.broken.empty()) of.cause = dead.broken;
  if (!dead.start_error().empty()) of.cause = dead.start_error();
  const auto& header = dead.link().header();
  if (header.exit_called.load(std::memory_order_acquire) != 0)
    of.cause = "the task called exit(" + std::to_string(header.exit_status.load()) + ")";

  of.backtrace = dead.link().crash_text();
  if (!of.backtrace.empty()) of.fault_address = dead.link().fault_address();
  sort_losses(dead, of);
  std::erase(active_, place);
  std::erase(touched_, place);
  const std::uint64_t id = dead.id();
  of.gives_up =
      core_.worker_down(place, of.since_ns, dead.ordered) == supervisor_core::verdict::give_up;
  if (of.gives_up) giving_up_ = true;
  places_.erase(id);
  seats_[place].reset();
  dying_.emplace(id, std::move(of));
  // The timer runs for whoever waits longest.
  if (dying_.size() == 1) obituary_timer_->arm(obituary_after);
  // A replacement at once; the status of the dead one is not waited for.
  fill_seats();
  dispatch();
}

void supervisor::sort_losses(seat& dead, obituary& of) {
  using runtime::claim_state;
  auto& ring = dead.link().tasks();
  const bool sane = dead.broken.empty() && ring.refresh();
  std::vector<void*> back;
  for (const auto& [position, what] : core_.take_back(dead.index())) {
    auto* task = static_cast<task_node*>(what);
    const auto claim = ring.look(position);
    const bool begun = !sane || position < ring.head() || claim.state != claim_state::queued;
    if (!begun) {
      core_.not_begun();
      back.push_back(task);
      continue;
    }
    core_.accepted();
    if (task->find_extra() && task->find_extra()->on_start) start_told(dead, *task);
    task->set_worker_pid(dead.pid());
    std::uint64_t last_item = 0;
    if (const auto* chunk = task->chunk()) {
      if (const auto open = dead.link().open_items(position);
          open.count != 0 && open.count < chunk->count - chunk->first)
        take_items(*task, open, dead.link());
      // A cursor of another position: it died before the first item.
      const std::uint64_t cursor = dead.link().header().cursor.load(std::memory_order_relaxed);
      last_item = chunk->first;
      if (runtime::cursor_is_of(cursor, position))
        last_item = std::max(last_item, runtime::cursor_item(cursor));
    }
    count_death(*task, last_item);
    task->at.where = task_node::place::nowhere;
    of.lost.push_back({task, claim.started_ns, of.since_ns, last_item});
    if (dead.stopped && dead.stopped->position == position) {
      of.lost.back().error = dead.stopped->error;
      of.lost.back().rest = dead.stopped->rest;
    }
  }
  // What it had not begun runs elsewhere, in the same order.
  for (auto it = back.rbegin(); it != back.rend(); ++it)
    enqueue_task(*static_cast<task_node*>(*it), true);
}

void supervisor::publish_obituary(std::uint64_t id, const runtime::exit_info& info) {
  const auto it = dying_.find(id);
  if (it == dying_.end()) return;
  const obituary of = std::move(it->second);
  dying_.erase(it);
  runtime_->host().forget(id);

  for (const auto& loss : of.lost) {
    worker_lost_info lost;
    lost.pid = of.pid;
    lost.task_name = task_label(*loss.task);
    lost.task_id = loss.task->id();
    lost.attempts = loss.task->at.attempts;
    lost.backtrace = of.backtrace;
    lost.fault_address = of.fault_address;
    if (loss.started_ns > 0)
      lost.run_time =
          std::chrono::nanoseconds(std::max<std::int64_t>(loss.died_ns - loss.started_ns, 0));
    lost.memory = info.max_rss_bytes;
    lost.cause = of.cause;
    if (info.known && WIFSIGNALED(info.status)) lost.signal = WTERMSIG(info.status);
    if (info.known && WIFEXITED(info.status)) lost.exit_code = WEXITSTATUS(info.status);
    if (!info.known && lost.cause.empty()) lost.cause = describe_exit(info);
    settle_loss(loss, std::make_exception_ptr(carom::worker_lost(lost)));
  }
  say([&](auto& log) {
    log.log(of.ordered  ? spdlog::level::debug
            : of.was_up ? spdlog::level::info
                        : spdlog::level::warn,
            "pool '{}': worker {} {}{}{}", options_.name, of.pid, describe_exit(info),
            of.cause.empty() ? "" : ": ", of.cause);
  });
  if (options_.on_process_down)
    tell([this, event = process_event{of.pid, static_cast<int>(of.index), info.status}] {
      hand_out([call = options_.on_process_down, event] { call_logged(call, event); });
    });
  if (of.gives_up)
    fail_pool(of.cause.empty() ? "the last worker " + describe_exit(info) : of.cause);
  fill_seats();
  dispatch();
  advance_shutdown();
}

/// Of a chunk the deaths of each item count for themselves: how many share a chunk is no item's
/// fault.
void supervisor::count_death(task_node& task, std::uint64_t last_item) {
  if (task.chunk() && retry_rule(task).attempts > 1)
    task.at.attempts = ++item_deaths_[{&task, last_item}];
  else
    ++task.at.attempts;
}

void supervisor::forget_deaths(const task_node& chunk, std::uint64_t up_to) {
  if (item_deaths_.empty()) return;
  item_deaths_.erase(item_deaths_.lower_bound({&chunk, 0}),
                     item_deaths_.upper_bound({&chunk, up_to}));
}

/// What a task ends in whose worker is gone, or where it goes on.
void supervisor::settle_loss(const obituary::loss& loss, const std::exception_ptr& lost) {
  task_node& task = *loss.task;
  if (!loss.error && retry(task)) return;
  const auto* chunk = task.chunk();
  if (!loss.error) ++counts_.lost;
  if (!chunk || core_.ending() || (loss.error && loss.error == loss.rest)) {
    settle_error(task, loss.error ? loss.error : lost);
    return;
  }
  // What had ended but was not told is lost; the item that ran is the one that was stopped, if any.
  if (loss.error && loss.last_item > chunk->first) fail_items(task, loss.last_item - 1, lost);
  fail_items(task, loss.last_item, loss.error ? loss.error : lost);
  task.at.attempts = 0;  // those were of this item
  forget_deaths(task, loss.last_item);
  if (loss.rest)
    settle_error(task, loss.rest);
  else if (has_items_left(task))
    enqueue_task(task, true);
  else
    settle(task, detail::outcome_kind::value);
}

void supervisor::publish_late_obituaries() {
  std::vector<std::uint64_t> late;
  const std::int64_t now = runtime::steady_ns();
  constexpr auto patience = std::chrono::nanoseconds(obituary_after).count();
  std::int64_t next_ns = now + patience;
  for (const auto& [id, of] : dying_) {
    if (now - of.since_ns >= patience)
      late.push_back(id);
    else
      next_ns = std::min(next_ns, of.since_ns + patience);
  }
  for (const std::uint64_t id : late) {
    runtime::exit_info unknown;
    const auto it = dying_.find(id);
    if (it == dying_.end()) continue;
    unknown.pid = it->second.pid;
    publish_obituary(id, unknown);
  }
  if (!dying_.empty()) obituary_timer_->arm(std::chrono::nanoseconds(next_ns - now));
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#include "actors/callbacks.hpp"
#include "actors/supervisor.hpp"
#include "runtime/clock.hpp"

// Tasks on their way to workers, and from one worker to another.
namespace carom::actors {

using detail::task_node;

namespace {

/// An idle worker waits so long before it takes from one that is about to finish anyway.
constexpr std::chrono::milliseconds balance_after{1};

/// Of a long queue the tasks have left the caches: those that come next are fetched meanwhile.
constexpr std::size_t places_ahead = 4;

void fetch_ahead(const void* task) {
  const auto* const at = static_cast<const std::byte*>(task);
  for (std::size_t line = 0; line < sizeof(task_node); line += 64) __builtin_prefetch(at + line);
}

}  // namespace

void supervisor::dispatch() {
  std::int64_t now = place();
  if (let_go_of_spare()) now = place();  // whoever stood by may have a place now
  if (core_.lopsided(now)) balance(now);
  // Whoever has been given its last task is replaced now, not when it leaves.
  if (core_.next_start_at()) fill_seats();
  if (core_.drained()) advance_shutdown();
}

std::int64_t supervisor::place() {
  if (core_.pending() == 0) return 0;
  const std::int64_t now = runtime::steady_ns();
  for (;;) {
    if (withdrawn_ != 0) drop_withdrawn();
    const auto next = core_.next_placement(now);
    if (!next) break;
    if (const void* const soon = core_.ahead(places_ahead)) fetch_ahead(soon);
    auto& task = *static_cast<task_node*>(next->what);
    seat& to = *seats_[next->worker];
    const auto* extra = task.find_extra();
    runtime::task_frame frame;
    frame.task_id = task.id();
    try {
      const auto code = detail::to_code_ref(task.type().entry);
      frame.module = code.module;
      frame.offset = code.offset;
    } catch (const error&) {
      core_.drop_front();
      settle_error(task, std::current_exception());
      continue;
    }
    if (const auto* chunk = task.chunk()) {
      frame.flags |= runtime::flag_chunk;
      if (chunk->stop_at_error) frame.flags |= runtime::flag_stop_at_error;
      frame.first = static_cast<std::uint32_t>(chunk->first);
    }
    std::int64_t first_ns = claim_deadline_ns_;
    // Of a chunk that is stopped, what had ended before the item that ran is not to be lost.
    if (task.chunk() && (options_.memory_limit || options_.pool_memory_limit))
      frame.flags |= runtime::flag_timed;
    if (pool_limits_.any() || task.time_limit_ns() != 0 || task.soft_time_limit_ns() != 0) {
      const time_limits limits = limits_of(task);
      first_ns = std::min(first_ns, limits.first_ns());
      if (task.chunk() && limits.any()) frame.flags |= runtime::flag_timed;
    }
    const bool observed = extra && extra->on_start;
    if (observed) {
      frame.flags |= runtime::flag_observed;
      ++to.observed;
    }
    const std::uint64_t position = to.link().tasks().tail();
    bool written = false;
    try {
      written = to.link().write(std::move(frame), task.payload());
    } catch (...) {
      // No memory for what goes with it. What stands in the ring has not been shown yet.
      if (to.link().tasks().tail() != position) to.link().tasks().revoke(position);
      if (observed) --to.observed;
      core_.drop_front();
      settle_error(task, std::current_exception());
      continue;
    }
    if (!written) {
      if (observed) --to.observed;
      to.link().tasks().refresh();
      core_.refused();
      retry_full_ring(to.index());
      continue;
    }
    core_.placed(position, now);
    look_by(to, after_ns(now, first_ns));
    task.at.position = position;
    task.at.worker = to.index();
    task.at.where = task_node::place::worker;
    ++counts_.dispatched;
    const std::chrono::nanoseconds waited(now - task.at.queued_ns);
    counts_.waited += waited;
    counts_.longest_wait = std::max(counts_.longest_wait, waited);
    if (!to.touched) {
      to.touched = true;
      touched_.push_back(to.index());
    }
  }
  for (const index w : touched_) {
    if (seat* one = seats_[w].get()) {
      one->touched = false;
      one->link().publish();
      one->watch_writable();
    }
  }
  touched_.clear();
  if (const auto at = core_.next_token_at(now)) due(*at);
  if ((options_.memory_limit || options_.pool_memory_limit) && weigh_at_ns_ == never_ns) {
    weigh_at_ns_ = now;
    due(now);
  }
  return now;
}

/// They wait for nobody: neither for a worker nor for a token, or they would hold up the pool's
/// end.
void supervisor::drop_withdrawn() {
  while (void* const front = core_.front()) {
    auto& task = *static_cast<task_node*>(front);
    if (task.at.where != task_node::place::withdrawn) return;
    core_.drop_front();
    --withdrawn_;
    task.release();
  }
}

void supervisor::retry_full_ring(index w) {
  // A worker that has something to do will publish, and then gets more. One that has nothing lags
  // behind what was taken back from it.
  if (core_.live(w) != 0) return;
  if (!retry_timer_)
    retry_timer_ = runtime_->events().make_timer([this] {
      for (index one = 0; one < seats_.size(); ++one)
        if (seats_[one]) {
          seats_[one]->link().tasks().refresh();
          core_.try_again(one);
        }
      unless_it_throws("giving out tasks", [this] { dispatch(); });
    });
  retry_timer_->arm(balance_after);
}

void supervisor::balance(std::int64_t now) {
  if (const auto theft = core_.next_theft(false, now)) {
    steal(*theft);
    now = place();
  }
  if (core_.lopsided(now) && !balance_armed_) {
    balance_armed_ = true;
    balance_timer_->arm(balance_after);
  }
}

void supervisor::steal(const supervisor_core::theft& from) {
  seat& victim = *seats_[from.victim];
  auto& ring = victim.link().tasks();
  std::uint32_t wanted = from.count;
  for (std::uint64_t position = core_.tail(from.victim); position-- > ring.head() && wanted != 0;) {
    void* task = core_.at(from.victim, position);
    if (!task) continue;
    if (!ring.revoke(position)) break;  // begun, and so is all before it
    if (auto* extra = static_cast<task_node*>(task)->find_extra(); extra && extra->on_start)
      --victim.observed;
    core_.stolen(from.victim, position);
    enqueue_task(*static_cast<task_node*>(task), true);
    --wanted;
  }
}

// --- tasks ---------------------------------------------------------------------------------------

}  // namespace carom::actors

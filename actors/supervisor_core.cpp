// SPDX-License-Identifier: BSL-1.0
#include "actors/supervisor_core.hpp"

#include <algorithm>
#include <utility>

// The workers and the pool; supervisor_core_tasks.cpp has the tasks.
namespace carom::actors {
namespace {

/// Start-up deaths allowed: billiard's burst check.
constexpr std::uint32_t start_deaths = 10;  // for each process
constexpr std::int64_t start_period_ns = 1'000'000'000;
restart_intensity start_burst(std::uint32_t processes) {
  return {start_deaths * processes, start_period_ns};
}

}  // namespace

supervisor_core::supervisor_core(const options& o)
    : options_(o),
      target_(o.processes),
      workers_(o.processes),
      restarts_(o.max_restarts, o.period_ns),
      start_burst_(start_burst(o.processes)),
      backoff_(o.backoff, o.seed),
      pause_(o.start_patience_ns),
      rate_(o.task_interval_ns, o.task_burst) {}

// --- workers -------------------------------------------------------------------------------------

std::optional<supervisor_core::worker_index> supervisor_core::next_start(std::int64_t now_ns) {
  if (!may_start() || now_ns < start_at_ns()) return std::nullopt;
  worker_index w = 0;
  while (w < workers_.size() && workers_[w].state != worker_state::none) ++w;
  if (w == workers_.size()) workers_.emplace_back();
  workers_[w] = worker{};
  workers_[w].budget = next_budget();
  ++present_;
  ++started_;
  set_state(w, worker_state::starting);
  return w;
}

std::optional<std::int64_t> supervisor_core::next_start_at() const {
  if (!may_start()) return std::nullopt;
  return start_at_ns();
}

bool supervisor_core::starved(std::int64_t now_ns) {
  const bool somebody = seated_ != 0 || !standby_.empty();
  return pause_.failed(now_ns, somebody, serving_ != 0) || ending();
}

std::uint64_t supervisor_core::next_budget() {
  const std::uint64_t most = options_.max_tasks_per_child;
  // The first generation's end is spread, or all would be replaced at once, again and again.
  if (started_ >= options_.processes) return most;
  return most - most / 10 * started_ / options_.processes;
}

void supervisor_core::worker_up(worker_index w) {
  worker& up = workers_[w];
  if (up.state != worker_state::starting) return;
  up.was_ready = ever_ready_ = true;
  pause_.succeeded();
  set_state(w, worker_state::standby);
  seat_standby();
  roll_on();
}

supervisor_core::verdict supervisor_core::worker_down(worker_index w, std::int64_t now_ns,
                                                      bool ordered) {
  worker& down = workers_[w];
  if (down.state == worker_state::none) return verdict::none;
  const bool expected = ordered || down.state == worker_state::leaving ||
                        (down.state == worker_state::doomed && !down.counts);
  const bool was_ready = down.was_ready;
  set_state(w, worker_state::none);
  --present_;
  if (ending()) return verdict::none;
  seat_standby();
  if (gave_up_) return verdict::none;
  if (!expected) {
    restart_intensity& counted = was_ready ? restarts_ : start_burst_;
    const std::uint32_t before = counted.count();
    if (!counted.step(now_ns)) {
      deaths_ = before + 1;
      deaths_within_ns_ = was_ready ? options_.period_ns : start_period_ns;
      gave_up_ = true;
      return verdict::give_up;
    }
    // Starts that fail slowly fit into any window: what has never worked is not tried for ever.
    if (!ever_ready_) {
      if (start_failures_++ == 0) first_failure_ns_ = now_ns;
      if (start_failures_ > start_deaths * options_.processes) {
        deaths_ = start_failures_;
        deaths_within_ns_ = now_ns - first_failure_ns_;
        gave_up_ = true;
        return verdict::give_up;
      }
    }
    backoff_.died(now_ns);
  }
  return drained() ? verdict::none : verdict::restart;
}

void supervisor_core::set_state(worker_index w, worker_state to) {
  worker& one = workers_[w];
  const worker_state from = one.state;
  if (from == to) return;
  serving_ += serves(to);
  serving_ -= serves(from);
  seated_ += has_seat(to);
  seated_ -= has_seat(from);
  retiring_ += to == worker_state::retiring;
  retiring_ -= from == worker_state::retiring;
  if (!one.was_ready) {
    doomed_starts_ += to == worker_state::doomed;
    doomed_starts_ -= from == worker_state::doomed;
  }
  if (one.live == 0) {
    idle_ += to == worker_state::ready;
    idle_ -= from == worker_state::ready;
  }
  if (from == worker_state::standby) std::erase(standby_, w);
  if (from == worker_state::ready) unlist(w);
  if (one.stale && !serves(to)) {
    one.stale = false;
    --stale_;
  }
  one.state = to;
  if (to == worker_state::standby) standby_.push_back(w);
  if (to == worker_state::ready) list_if_hungry(w);
}

void supervisor_core::seat_standby() {
  while (!standby_.empty() && seated_ < target_) set_state(standby_.front(), worker_state::ready);
}

void supervisor_core::retire(worker_index w) {
  worker& one = workers_[w];
  if (one.state == worker_state::retiring) one.spent = false;
  if (one.state == worker_state::ready) set_state(w, worker_state::retiring);
}

void supervisor_core::condemn(worker_index w, bool counts) {
  if (workers_[w].state == worker_state::none) return;
  workers_[w].counts = counts;
  set_state(w, worker_state::doomed);
  seat_standby();
}

std::optional<supervisor_core::worker_index> supervisor_core::find(worker_state state,
                                                                   bool idle) const {
  for (worker_index w = 0; w < workers_.size(); ++w)
    if (workers_[w].state == state && (!idle || workers_[w].live == 0)) return w;
  return std::nullopt;
}

std::optional<supervisor_core::worker_index> supervisor_core::next_leaver() {
  if (ending()) return std::nullopt;
  roll_on();
  // Those that start are seen to when they are up.
  while (up() > wanted()) {
    if (!standby_.empty()) return standby_.back();
    if (const auto one = find(worker_state::ready, true)) return one;
    const auto busy = find(worker_state::ready, false);
    if (!busy) break;
    retire(*busy);
  }
  if (retiring_ == 0) return std::nullopt;
  return find(worker_state::retiring, true);
}

void supervisor_core::leaving(worker_index w) {
  if (workers_[w].state == worker_state::none) return;
  set_state(w, worker_state::leaving);
  seat_standby();
}

void supervisor_core::set_target(std::uint32_t processes) {
  target_ = std::max(processes, 1u);
  seat_standby();
}

void supervisor_core::restart_all() {
  for (worker& one : workers_) {
    one.spent = false;  // whoever retires goes, even if it is robbed of its last task
    if (one.stale || (one.state != worker_state::ready && one.state != worker_state::standby))
      continue;
    one.stale = true;
    ++stale_;
  }
}

/// Where there are enough without them, those that are to be replaced go: first who stands by, then
/// who has least to do.
void supervisor_core::roll_on() {
  const auto missed = [this](worker_index w) {
    return 2 * workers_[w].live + (workers_[w].state == worker_state::ready);
  };
  while (stale_ != 0 && up() > target_) {
    std::optional<worker_index> old;
    for (worker_index w = 0; w < workers_.size(); ++w)
      if (workers_[w].stale && (!old || missed(w) < missed(*old))) old = w;
    set_state(*old, worker_state::retiring);  // `next_leaver` finds it
  }
}

// --- the pool ------------------------------------------------------------------------------------

void supervisor_core::close() {
  if (state_ == pool_state::running) state_ = pool_state::closing;
}
void supervisor_core::terminate() {
  if (state_ != pool_state::failed) state_ = pool_state::terminating;
}
void supervisor_core::fail() { state_ = pool_state::failed; }

}  // namespace carom::actors

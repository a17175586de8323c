// SPDX-License-Identifier: BSL-1.0
#include "actors/supervisor_core.hpp"

#include <algorithm>
#include <utility>

namespace carom::actors {
namespace {

/// A worker is kept busy for about this long, so that ringing it is rare.
constexpr std::uint64_t busy_ns = 1'000'000;
/// While nothing is known of how long tasks take.
constexpr std::uint32_t first_window = 4;
/// To wake a worker costs about as much as this much work, on both sides together.
constexpr std::uint64_t worth_waking_ns = 20'000;
/// Tasks that together take less are not worth stealing.
constexpr std::uint64_t worth_stealing_ns = 200'000;

/// Start-up deaths allowed: billiard's burst check.
constexpr std::uint32_t start_deaths = 10;  // for each process
constexpr std::int64_t start_period_ns = 1'000'000'000;
restart_intensity start_burst(std::uint32_t processes) {
  return {start_deaths * processes, start_period_ns};
}

using state_of = supervisor_core::worker_state;

bool serves(state_of s) {
  return s == state_of::starting || s == state_of::standby || s == state_of::ready;
}
bool has_seat(state_of s) { return s == state_of::ready || s == state_of::retiring; }

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
  if (!expected) {
    restart_intensity& counted = was_ready ? restarts_ : start_burst_;
    const std::uint32_t before = counted.count();
    if (!counted.step(now_ns)) {
      deaths_ = before + 1;
      deaths_within_ns_ = was_ready ? options_.period_ns : start_period_ns;
      return verdict::give_up;
    }
    // Starts that fail slowly fit into any window: what has never worked is not tried for ever.
    if (!ever_ready_) {
      if (start_failures_++ == 0) first_failure_ns_ = now_ns;
      if (start_failures_ > start_deaths * options_.processes) {
        deaths_ = start_failures_;
        deaths_within_ns_ = now_ns - first_failure_ns_;
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

// --- tasks ---------------------------------------------------------------------------------------

std::uint32_t supervisor_core::window(const worker& w) const {
  const std::uint32_t usual = w.average_ns == 0
                                  ? first_window
                                  : static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
                                        busy_ns / w.average_ns, 2, widest_window));
  if (w.budget == 0) return usual;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(usual, w.live + (w.budget - std::min(w.given, w.budget))));
}

bool supervisor_core::hungry(const worker& w) const {
  const std::uint32_t most = window(w);
  return w.state == worker_state::ready && w.live <= most / 2 && w.live < most;
}

void supervisor_core::list_if_hungry(worker_index w) {
  const worker& one = workers_[w];
  // An idle one first, and of several the last: its caches are the warmest of those that wait.
  if (one.live != 0) {
    if (!hungry_.holds(w) && hungry(one)) hungry_.to_back(w);
  } else if (hungry(one)) {
    hungry_.to_front(w);
  }
}

void supervisor_core::unlist(worker_index w) {
  hungry_.leave(w);
  if (giving_ == w) share_ = 0;
}

void supervisor_core::change_live(worker& w, std::int32_t by) {
  const auto spare = [](std::uint32_t live) { return live > 1 ? live - 1 : 0; };
  const std::uint32_t before = w.live;
  w.live = static_cast<std::uint32_t>(static_cast<std::int32_t>(before) + by);
  spare_ += spare(w.live);
  spare_ -= spare(before);
  under_way_ += static_cast<std::uint64_t>(std::int64_t{by});
  if (w.state == worker_state::ready) {
    if (before == 0 && w.live != 0) --idle_;
    if (before != 0 && w.live == 0) ++idle_;
  }
}

void supervisor_core::end_turn() {
  if (std::exchange(share_, 0) != 0) list_if_hungry(giving_);
}

std::optional<supervisor_core::placement> supervisor_core::next_placement(std::int64_t now_ns) {
  if (pending_.empty()) no_handfuls_ = false;
  if (pending_.empty() || ending() || !rate_.has_token(now_ns)) {
    // What comes later is shared anew: by then somebody else may idle.
    end_turn();
    return std::nullopt;
  }
  // What the worker has told meanwhile may have made its window smaller, and a task that never
  // ends keeps its place in the ring.
  if (share_ != 0) {
    const worker& current = workers_[giving_];
    if (current.live >= window(current) || current.tasks[current.tail % ring]) share_ = 0;
  }
  while (share_ == 0) {
    if (hungry_.empty()) return std::nullopt;
    const auto waiting = static_cast<std::uint32_t>(hungry_.size());
    giving_ = hungry_.front();
    hungry_.pop_front();
    const worker& next = workers_[giving_];
    if (!hungry(next) || next.tasks[next.tail % ring]) continue;
    // Rounded down: the first tasks of a short queue begin first, each on a worker of its own, and
    // those who idle are all given some before anybody has a second turn. How many tokens there
    // are is not known: one each.
    const std::uint64_t others = next.live == 0 ? std::max(idle_, 1u) : waiting;
    std::uint64_t fair = rate_.limited() ? 1 : pending_.size() / others;
    // From a long queue of tiny tasks each gets enough to be woken for, and fewer are woken.
    if (fair >= first_window && next.average_ns != 0 && !no_handfuls_)
      fair = std::max(fair, worth_waking_ns / next.average_ns);
    share_ = static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(fair, 1, std::max(window(next), next.live + 1) - next.live));
  }
  return placement{giving_, pending_.front()};
}

void supervisor_core::placed(std::uint64_t position, std::int64_t now_ns) {
  const worker_index w = giving_;
  worker& to = workers_[w];
  to.tasks[position % ring] = pending_.front();
  to.tail = position + 1;
  pending_.pop_front();
  rate_.take(now_ns);
  change_live(to, 1);
  ++to.given;
  if (--share_ == 0) list_if_hungry(w);
  if (to.given == to.budget) {
    to.spent = !to.stale;
    set_state(w, worker_state::retiring);
  }
}

void supervisor_core::refused() { share_ = 0; }

std::optional<std::int64_t> supervisor_core::next_token_at(std::int64_t now_ns) const {
  if (pending_.empty() || ending() || rate_.has_token(now_ns)) return std::nullopt;
  return rate_.next_ns();
}

void supervisor_core::forget_task(worker& w, std::uint64_t position) {
  w.tasks[position % ring] = nullptr;
  change_live(w, -1);
}

supervisor_core::task supervisor_core::ended(worker_index w, std::uint64_t position) {
  worker& by = workers_[w];
  if (position >= by.tail || by.tail - position > ring) return nullptr;
  const task done = by.tasks[position % ring];
  if (done) forget_task(by, position);
  return done;
}

supervisor_core::task supervisor_core::finished(worker_index w, std::uint64_t position) {
  const task done = ended(w, position);
  if (!done) return nullptr;
  restarts_.accepted();
  list_if_hungry(w);
  return done;
}

std::vector<supervisor_core::taken> supervisor_core::take_back(worker_index w) {
  worker& from = workers_[w];
  std::vector<taken> all;
  for (std::uint64_t position = first(w); position < from.tail; ++position) {
    const task one = from.tasks[position % ring];
    if (!one) continue;
    forget_task(from, position);
    all.push_back({position, one});
  }
  return all;
}

// --- stealing ------------------------------------------------------------------------------------

std::optional<supervisor_core::theft> supervisor_core::next_theft(bool stuck, std::int64_t now_ns) {
  if (!lopsided(now_ns)) return std::nullopt;
  std::optional<theft> best;
  std::uint32_t most = 1;
  for (worker_index w = 0; w < workers_.size(); ++w) {
    const worker& one = workers_[w];
    if (!has_seat(one.state) || one.live <= most) continue;
    if (!stuck && one.average_ns != 0 && (one.live - 1) * one.average_ns < worth_stealing_ns)
      continue;
    most = one.live;
    best = theft{w, std::max(one.live / 2, std::uint32_t{1})};
  }
  no_handfuls_ |= stuck && best;
  return best;
}

supervisor_core::task supervisor_core::stolen(worker_index w, std::uint64_t position) {
  worker& from = workers_[w];
  const task taken = from.tasks[position % ring];
  if (!taken) return nullptr;
  forget_task(from, position);
  rate_.give_back();
  --from.given;
  // It can have another one after all.
  if (from.state == worker_state::retiring && from.spent) {
    from.spent = false;
    set_state(w, worker_state::ready);
  }
  // One that is left with nothing will finish nothing that would bring it here. One that keeps some
  // waits: what was stolen from it is not for it.
  if (from.live == 0) list_if_hungry(w);
  return taken;
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

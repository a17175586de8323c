// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <utility>

#include "actors/supervisor_core.hpp"

// Who gets which task, and who gives what back.
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

}  // namespace

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

}  // namespace carom::actors

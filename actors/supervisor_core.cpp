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
/// Tasks that together take less are not worth stealing.
constexpr std::uint64_t worth_stealing_ns = 200'000;

/// Start-up deaths allowed: billiard's burst check.
restart_intensity start_burst(std::uint32_t processes) { return {10 * processes, 1'000'000'000}; }

}  // namespace

supervisor_core::supervisor_core(const options& o)
    : options_(o),
      workers_(o.processes),
      restarts_(o.max_restarts, o.period_ns),
      start_burst_(start_burst(o.processes)) {}

std::optional<supervisor_core::worker_index> supervisor_core::next_start() {
  if (state_ == pool_state::terminating || state_ == pool_state::failed || drained())
    return std::nullopt;
  for (worker_index w = 0; w < workers_.size(); ++w) {
    if (workers_[w].state != worker_state::none) continue;
    workers_[w] = worker{};
    workers_[w].state = worker_state::starting;
    ++present_;
    return w;
  }
  return std::nullopt;
}

void supervisor_core::worker_up(worker_index w) {
  worker& up = workers_[w];
  if (up.state != worker_state::starting) return;
  up.state = worker_state::ready;
  up.was_ready = true;
  ++idle_;
  list_if_hungry(w);
}

supervisor_core::verdict supervisor_core::worker_down(worker_index w, std::int64_t now_ns,
                                                      bool ordered) {
  worker& down = workers_[w];
  if (down.state == worker_state::none) return verdict::none;
  if (down.state == worker_state::ready && down.live == 0) --idle_;
  const bool expected = ordered || down.state == worker_state::leaving;
  const bool was_ready = down.was_ready;
  down.state = worker_state::none;
  --present_;
  unlist(w);
  if (state_ == pool_state::terminating || state_ == pool_state::failed) return verdict::none;
  if (!expected) {
    restart_intensity& counted = was_ready ? restarts_ : start_burst_;
    const std::uint32_t before = counted.count();
    if (!counted.step(now_ns)) {
      deaths_ = before + 1;
      return verdict::give_up;
    }
  }
  return drained() ? verdict::none : verdict::restart;
}

std::uint32_t supervisor_core::window(const worker& w) const {
  if (w.average_ns == 0) return first_window;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(busy_ns / w.average_ns, 2, widest_window));
}

bool supervisor_core::hungry(const worker& w) const {
  return w.state == worker_state::ready && w.live <= window(w) / 2;
}

void supervisor_core::list_if_hungry(worker_index w) {
  worker& one = workers_[w];
  if (one.listed || !hungry(one)) return;
  one.listed = true;
  // An idle one first: its caches are the warmest of those that wait.
  if (one.live == 0)
    hungry_.push_front(w);
  else
    hungry_.push_back(w);
}

void supervisor_core::unlist(worker_index w) {
  if (workers_[w].listed) std::erase(hungry_, w);
  workers_[w].listed = false;
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

std::optional<supervisor_core::placement> supervisor_core::next_placement() {
  if (pending_.empty() || state_ == pool_state::terminating || state_ == pool_state::failed)
    return std::nullopt;
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
    worker& next = workers_[giving_];
    next.listed = false;
    if (!hungry(next) || next.tasks[next.tail % ring]) continue;
    // Rounded down: the first tasks of a short queue begin first, each on a worker of its own.
    const std::uint64_t fair = pending_.size() / waiting;
    share_ = static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(fair, 1, std::max(window(next), next.live + 1) - next.live));
  }
  return placement{giving_, pending_.front()};
}

void supervisor_core::placed(std::uint64_t position) {
  worker& to = workers_[giving_];
  to.tasks[position % ring] = pending_.front();
  to.tail = position + 1;
  pending_.pop_front();
  change_live(to, 1);
  if (--share_ == 0) list_if_hungry(giving_);
}

void supervisor_core::refused() { share_ = 0; }

void supervisor_core::forget_task(worker& w, std::uint64_t position) {
  w.tasks[position % ring] = nullptr;
  change_live(w, -1);
}

supervisor_core::task supervisor_core::finished(worker_index w, std::uint64_t position) {
  worker& by = workers_[w];
  if (position >= by.tail || by.tail - position > ring) return nullptr;
  const task done = by.tasks[position % ring];
  if (!done) return nullptr;
  forget_task(by, position);
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

std::deque<supervisor_core::task> supervisor_core::take_pending() {
  return std::exchange(pending_, {});
}

std::optional<supervisor_core::theft> supervisor_core::next_theft(bool stuck) const {
  if (!lopsided()) return std::nullopt;
  std::optional<theft> best;
  std::uint32_t most = 1;
  for (worker_index w = 0; w < workers_.size(); ++w) {
    const worker& one = workers_[w];
    if (one.state != worker_state::ready || one.live <= most) continue;
    if (!stuck && one.average_ns != 0 && (one.live - 1) * one.average_ns < worth_stealing_ns)
      continue;
    most = one.live;
    best = theft{w, std::max(one.live / 2, std::uint32_t{1})};
  }
  return best;
}

supervisor_core::task supervisor_core::stolen(worker_index w, std::uint64_t position) {
  worker& from = workers_[w];
  const task taken = from.tasks[position % ring];
  if (taken) forget_task(from, position);
  return taken;
}

void supervisor_core::close() {
  if (state_ == pool_state::running) state_ = pool_state::closing;
}
void supervisor_core::terminate() {
  if (state_ != pool_state::failed) state_ = pool_state::terminating;
}
void supervisor_core::fail() { state_ = pool_state::failed; }

void supervisor_core::leaving(worker_index w) {
  worker& one = workers_[w];
  if (one.state == worker_state::ready && one.live == 0) --idle_;
  if (one.state != worker_state::none) one.state = worker_state::leaving;
  unlist(w);
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#include <algorithm>

#include "tests/actors/simulation.hpp"

// The shell's part, function by function as in actors/supervisor.cpp; `must` says what the core
// owes it.
namespace carom::test {

using actors::supervisor_core;

void simulation::end(model_task& task, met how) {
  ++task.endings;
  if (task.where != model_task::place::withdrawn) task.where = model_task::place::nowhere;
  ++seen_[how];
}

void simulation::enqueue(model_task& task, bool first) {
  task.where = model_task::place::queue;
  if (first) {
    core_.resubmit(&task, task.priority);
    pending_.push_front(&task);
  } else {
    core_.submit(&task, task.priority);
    pending_.push_back(&task);
  }
}

std::uint32_t simulation::window(index w) const {
  const std::uint64_t average = seats_[w]->average_ns;
  if (average == 0) return 4;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(1'000'000 / average, 2, 256));
}

void simulation::go_on() {
  go_on_later_ = false;
  dispatch();
}

void simulation::dispatch() {
  place();
  if (let_go_of_spare()) place();  // whoever stood by may have a place now
  if (core_.lopsided(now_ns_)) balance();
  if (core_.next_start_at()) fill_seats();
  if (core_.drained()) advance_shutdown();
  nothing_waits_needlessly();
}

void simulation::place() {
  std::vector<index> touched;
  const auto dropped = [this] { return seen_[met::tombstones] + seen_[met::unsendable]; };
  const std::uint64_t dropped_before = dropped();
  for (;;) {
    drop_withdrawn();
    const auto next = core_.next_placement(now_ns_);
    if (!next) break;
    place_one(*next, touched);
  }
  // What is dropped has been counted on when the rest was shared.
  if (dropped() == dropped_before) given_fairly(touched);
  for (const index w : touched)
    if (seats_[w]) seats_[w]->publish();
  if (const auto at = core_.next_token_at(now_ns_)) {
    must(!rate_.may_take(now_ns_) && !rate_.may_take(*at - 1) && rate_.may_take(*at),
         "a token is not waited for longer than the rate limit says");
    due(*at);
    ++seen_[met::waits_for_token];
  }
}

void simulation::drop_withdrawn() {
  while (auto* const task = static_cast<model_task*>(core_.front())) {
    must(task == pending_.front(), "it knows whose turn it is");
    if (task->where != model_task::place::withdrawn) return;
    core_.drop_front();
    pending_.pop_front();
    --withdrawn_;
    ++seen_[met::tombstones];
  }
}

void simulation::place_one(const supervisor_core::placement& next, std::vector<index>& touched) {
  auto* task = static_cast<model_task*>(next.what);
  must(!pending_.empty() && task == pending_.front(), "tasks are placed in the queue's order");
  must(task->endings == 0 && task->where == model_task::place::queue, "what is placed has waited");
  must(core_.state(next.worker) == worker_state::ready, "only a ready worker gets tasks");
  must(seats_[next.worker] && seats_[next.worker]->up, "it is there and has said so");
  model_worker& to = *seats_[next.worker];
  must(!to.told_to_leave && !to.killed, "who goes gets no tasks");
  act_between();
  if (!task->sendable) {
    core_.drop_front();
    pending_.pop_front();
    end(*task, met::unsendable);
    return;
  }
  const auto position = dice_.chance(no_room_) ? std::nullopt : to.write(task, now_ns_);
  if (!position) {
    to.refresh();
    core_.refused();
    ++seen_[met::refused];
    if (to.live == 0) retry_armed_ = to.full = true;
    return;
  }
  must(*position < supervisor_core::ring || !to.slots[*position - supervisor_core::ring].held,
       "a task that is not over keeps its place in the core's ring");
  core_.placed(*position, now_ns_);
  pending_.pop_front();
  must(rate_.take(now_ns_), "no more tasks go than the rate limit lets");
  must(to.live <= window(next.worker), "no worker is ahead by more than its window");
  const std::uint64_t most = options_.max_tasks_per_child;
  must(most == 0 || to.given <= most, "no worker gets more tasks than it may have");
  if (core_.state(next.worker) == worker_state::retiring) ++seen_[met::spent];
  look_by(to, actors::after_ns(now_ns_, std::min(claim_deadline_ns_, task->limits.first_ns())));
  task->where = model_task::place::worker;
  task->worker = next.worker;
  task->position = *position;
  touched.push_back(next.worker);
}

bool simulation::let_go_of_spare() {
  struct counts {
    std::uint32_t up = 0;
    std::uint32_t busy = 0;  // and not to be replaced: those may be busy when they retire
  };
  const auto count = [this] {
    counts all;
    for (index w = 0; w < seats_.size(); ++w) {
      const auto is = core_.state(w);
      all.up += is == worker_state::ready || is == worker_state::standby;
      all.busy += is == worker_state::ready && seats_[w]->live != 0 && !seats_[w]->to_be_replaced;
    }
    return all;
  };
  const counts before = count();
  bool any = false;
  while (const auto w = core_.next_leaver()) {
    must(seats_[*w] && seats_[*w]->live == 0, "who is told to leave has nothing to do");
    must(core_.state(*w) == worker_state::standby || core_.state(*w) == worker_state::ready ||
             core_.state(*w) == worker_state::retiring,
         "who is told to leave is there");
    ask_to_leave(*w);
    ++seen_[met::left];
    any = true;
  }
  if (ends()) return any;
  const counts after = count();
  must(after.up == std::min(before.up, core_.target()),
       "all go that are too many, and nobody whom there is none for");
  const std::uint32_t drained = before.busy - after.busy;
  must(!spares_idle_ || drained == 0, "the autoscaler takes no busy worker away");
  spares_idle_ = false;
  seen_[met::drained] += drained;
  return any;
}

void simulation::ask_to_leave(index w) {
  must(core_.live(w) == 0, "who leaves has no tasks");
  core_.leaving(w);
  seats_[w]->ordered = true;
  seats_[w]->told_to_leave = true;
}

void simulation::balance() {
  if (const auto theft = core_.next_theft(false, now_ns_)) {
    steal(*theft);
    place();
  }
  if (core_.lopsided(now_ns_)) balance_armed_ = true;
}

void simulation::balance_timer() {
  balance_armed_ = false;
  place();
  if (const auto theft = core_.next_theft(true, now_ns_)) steal(*theft);
  dispatch();
}

void simulation::steal(const supervisor_core::theft& from) {
  must(seats_[from.victim] != nullptr, "a victim is there");
  model_worker& victim = *seats_[from.victim];
  must(!victim.killed, "nothing is taken from who is being killed: that has been done, or may not");
  must(from.count >= 1 && from.count < victim.live, "a victim keeps at least one task");
  must(pending_.empty() || core_.next_token_at(now_ns_),
       "nothing is stolen while what waits may go to whoever idles");
  std::uint32_t wanted = from.count;
  for (std::uint64_t position = core_.tail(from.victim); position-- > victim.seen_head && wanted;) {
    auto* task = static_cast<model_task*>(core_.at(from.victim, position));
    if (!task) continue;
    must(victim.slots[position].held && victim.slots[position].task == task,
         "a task stands where it was put");
    act_between();
    if (!victim.revoke(position)) {
      ++seen_[met::revoked_too_late];
      break;
    }
    take_unbegun_one(from.victim, position);
    enqueue(*task, true);
    ++seen_[met::stolen];
    --wanted;
  }
}

/// What stood at a position of a worker's and has been revoked.
void simulation::take_unbegun_one(index w, std::uint64_t position) {
  const bool retired = core_.state(w) == worker_state::retiring;
  must(core_.stolen(w, position) == seats_[w]->slots[position].task,
       "what is stolen is what was revoked");
  seats_[w]->let_go(position);
  rate_.give_back(now_ns_);
  if (retired && core_.state(w) == worker_state::ready) ++seen_[met::reprieved];
}

void simulation::retry_timer() {
  retry_armed_ = false;
  for (index w = 0; w < seats_.size(); ++w)
    if (seats_[w]) {
      seats_[w]->refresh();
      seats_[w]->full = false;
      core_.try_again(w);
    }
  dispatch();
}

void simulation::poll() {
  for (index w = 0; w < seats_.size(); ++w)
    if (seats_[w]) drain(w);
  dispatch();
}

std::uint64_t simulation::drain(index w) {
  model_worker& from = *seats_[w];
  if (from.broken) return 0;
  const std::uint64_t available = from.results.size();
  for (std::uint64_t i = 0; i < available; ++i) {
    const std::uint64_t position = from.results[i];
    model_worker::slot& slot = from.slots[position];
    must(slot.state == model_worker::claim::done, "only what ran to its end has a result");
    if (!slot.held) {  // the pool ended under it
      must(core_.finished(w, position) == nullptr, "what was taken back is not finished again");
      continue;
    }
    must(core_.at(w, position) == slot.task, "a task stands where it was put");
    must(core_.finished(w, position) == slot.task, "what is finished is what stood there");
    must(core_.finished(w, position) == nullptr, "nothing is finished twice");
    restarts_.ack();
    from.let_go(position);
    end(*slot.task, met::finished);
  }
  act_between();
  from.refresh();
  if (available == 0) return 0;
  from.average_ns = average_ns_;
  core_.set_average(w, average_ns_);
  from.results.erase(from.results.begin(),
                     from.results.begin() + static_cast<std::ptrdiff_t>(available));
  if (from.wants_out &&
      (core_.state(w) == worker_state::ready || core_.state(w) == worker_state::retiring)) {
    core_.retire(w);
    must(core_.state(w) == worker_state::retiring, "who is too big is retired");
    take_unbegun(w);
    must(core_.state(w) == worker_state::retiring, "and stays so");
    ++seen_[met::too_big];
  }
  return available;
}

}  // namespace carom::test

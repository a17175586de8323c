// SPDX-License-Identifier: BSL-1.0
#include <algorithm>

#include "tests/actors/simulation.hpp"

// The shell's part, function by function as in actors/supervisor*.cpp; `must` says what the core
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

void simulation::fill_seats() {
  fill_later_ = false;
  if (giving_up_) return;
  while (const auto place = core_.next_start(now_ns_)) {
    if (seats_.size() <= *place) seats_.resize(*place + std::size_t{1});
    must(!seats_[*place], "a worker starts where there is none");
    must(core_.state(*place) == worker_state::starting, "it is starting");
    must(now_ns_ >= backoff_.earliest_ns(), "nobody starts sooner after a death than is allowed");
    seats_[*place] = std::make_unique<model_worker>();
    seats_[*place]->born_ns = now_ns_;
    look_by(*seats_[*place], actors::after_ns(now_ns_, start_timeout_ns_));
  }
  if (const auto at = core_.next_start_at()) {
    must(*at > now_ns_, "who may start now is started");
    must(*at <= backoff_.latest_ns(), "nobody has to wait longer than the options say");
    due(*at);
    ++seen_[met::waits_for_start];
  }
}

void simulation::go_on() {
  go_on_later_ = false;
  dispatch();
}

void simulation::dispatch() {
  place();
  if (core_.next_start_at()) fill_seats();
  let_go_of_spare();
  place();  // whoever stood by may have a place now
  if (core_.lopsided()) balance();
  if (core_.drained()) advance_shutdown();
  nothing_waits_needlessly();
}

void simulation::place() {
  std::vector<index> touched;
  while (const auto next = core_.next_placement(now_ns_)) place_one(*next, touched);
  for (const index w : touched)
    if (seats_[w]) seats_[w]->publish();
  if (const auto at = core_.next_token_at(now_ns_)) {
    must(*at > now_ns_, "a token that is there is not waited for");
    due(*at);
    ++seen_[met::waits_for_token];
  }
}

void simulation::place_one(const supervisor_core::placement& next, std::vector<index>& touched) {
  auto* task = static_cast<model_task*>(next.what);
  must(!pending_.empty() && task == pending_.front(), "tasks are placed in the queue's order");
  if (task->where == model_task::place::withdrawn) {
    core_.drop_front();
    pending_.pop_front();
    --withdrawn_;
    ++seen_[met::tombstones];
    return;
  }
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
  const auto position = dice_.chance(no_room_) ? std::nullopt : to.write(task);
  if (!position) {
    to.refresh();
    core_.refused();
    ++seen_[met::refused];
    if (to.live == 0) retry_armed_ = true;
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

void simulation::let_go_of_spare() {
  const auto retiring = [this] {
    std::uint32_t count = 0;
    for (index w = 0; w < seats_.size(); ++w) count += core_.state(w) == worker_state::retiring;
    return count;
  };
  const std::uint32_t before = retiring();
  std::uint32_t gone = 0;
  while (const auto w = core_.next_leaver()) {
    must(seats_[*w] && seats_[*w]->live == 0, "who is told to leave has nothing to do");
    must(core_.state(*w) == worker_state::standby || core_.state(*w) == worker_state::ready ||
             core_.state(*w) == worker_state::retiring,
         "who is told to leave is there");
    gone += core_.state(*w) == worker_state::retiring;
    ask_to_leave(*w);
    ++seen_[met::left];
  }
  const std::uint32_t drained = retiring() + gone - before;
  must(!spares_idle_ || drained == 0, "the autoscaler takes no busy worker away");
  spares_idle_ = false;
  seen_[met::drained] += drained;
}

void simulation::ask_to_leave(index w) {
  must(core_.live(w) == 0, "who leaves has no tasks");
  core_.leaving(w);
  seats_[w]->ordered = true;
  seats_[w]->told_to_leave = true;
}

void simulation::balance() {
  if (const auto theft = core_.next_theft(false)) {
    steal(*theft);
    place();
  }
  if (core_.lopsided()) balance_armed_ = true;
}

void simulation::balance_timer() {
  balance_armed_ = false;
  if (const auto theft = core_.next_theft(true)) steal(*theft);
  dispatch();
}

void simulation::steal(const supervisor_core::theft& from) {
  must(seats_[from.victim] != nullptr, "a victim is there");
  model_worker& victim = *seats_[from.victim];
  must(from.count >= 1 && from.count < victim.live, "a victim keeps at least one task");
  must(pending_.empty(), "nothing is stolen while tasks wait for anybody");
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

void simulation::worker_up(index w) {
  model_worker& worker = *seats_[w];
  const bool starting = core_.state(w) == worker_state::starting;
  worker.ready_sent = true;
  core_.worker_up(w);
  if (starting) {
    worker.up = true;
    must(core_.state(w) == worker_state::ready || core_.state(w) == worker_state::standby,
         "who is up works or stands by");
    seen_[met::stood_by] += core_.state(w) == worker_state::standby;
  }
  dispatch();
}

bool simulation::down(index w, bool ordered) {
  using verdict = supervisor_core::verdict;
  const bool doomed = core_.state(w) == worker_state::doomed;
  const model_worker& one = *seats_[w];
  billiard_restart_state& counted = one.up ? restarts_ : start_burst_;
  must(doomed == one.killed, "who is killed is doomed");
  const bool expected = ordered || one.told_to_leave || (one.killed && !one.counts);
  seats_[w].reset();
  ++seen_[met::deaths];
  const auto said = core_.worker_down(w, now_ns_, ordered);
  if (ends()) {
    must(said == verdict::none, "a pool that ends replaces nobody");
    return false;
  }
  if (!expected) {
    if (!counted.step(now_ns_)) {
      must(said == verdict::give_up, "one death too many is given up");
      must(core_.deaths() == counted.maxR + 1, "it says how many were too many");
      ++seen_[met::given_up];
      return true;
    }
    backoff_.died(now_ns_);
  }
  must(said != verdict::give_up, "nothing is given up for deaths that are allowed");
  must((said == verdict::restart) != core_.drained(), "who dies is replaced while there is work");
  return false;
}

void simulation::cannot_fork(index w) {
  if (down(w, false))
    fail();
  else
    fill_later_ = true;
  advance_shutdown();
}

void simulation::bury(index w) {
  model_worker& dead = *seats_[w];
  dead.dead = true;
  while (drain(w) != 0) {
  }
  dead.refresh();
  obituary of;
  std::vector<model_task*> back;
  const std::uint32_t live = dead.live;
  const auto taken = core_.take_back(w);
  must(taken.size() == live, "all that a dead worker had is taken back");
  killed_for_one_task(dead, taken.size());
  for (std::size_t i = 0; i < taken.size(); ++i) {
    const auto [position, what] = taken[i];
    must(i == 0 || taken[i - 1].position < position, "in the order of positions");
    model_worker::slot& slot = dead.slots[position];
    must(slot.held && slot.task == what, "a task stands where it was put");
    dead.let_go(position);
    if (position >= dead.head && slot.state == model_worker::claim::queued) {
      back.push_back(slot.task);
      ++seen_[met::run_again];
      continue;
    }
    core_.accepted();
    restarts_.ack();
    slot.task->where = model_task::place::nowhere;
    of.lost.push_back({slot.task, {}});
    if (dead.stopped && dead.stopped->position == position) of.lost.back().stopped = dead.stopped;
  }
  std::for_each(back.rbegin(), back.rend(), [this](model_task* task) { enqueue(*task, true); });
  of.gives_up = down(w, dead.ordered);
  giving_up_ |= of.gives_up;
  dying_.push_back(std::move(of));
  fill_seats();
  dispatch();
}

void simulation::publish_obituary() {
  const obituary of = std::move(dying_.back());
  dying_.pop_back();
  for (const auto& [task, stopped] : of.lost) {
    const bool goes_on = task->chunk && !(stopped && stopped->whole) && !ends();
    if (goes_on) {
      task->chunk = false;  // its last item
      enqueue(*task, true);
      ++seen_[met::run_again];
    } else {
      end(*task, stopped ? stopped->how : met::lost);
    }
  }
  if (of.gives_up) fail();
  fill_seats();
  dispatch();
  advance_shutdown();
}

void simulation::close() {
  core_.close();
  must(!core_.accepts(), "a closed pool takes no more tasks");
  dispatch();
  advance_shutdown();
}

void simulation::terminate() {
  if (core_.state() == supervisor_core::pool_state::terminating) return;
  core_.terminate();
  end_all_tasks();
}

void simulation::fail() {
  if (core_.state() == supervisor_core::pool_state::failed) return;
  core_.fail();
  end_all_tasks();
}

void simulation::end_all_tasks() {
  must(!core_.accepts(), "a pool that ends takes no more tasks");
  const auto left = core_.take_pending();
  must(std::equal(left.begin(), left.end(), pending_.line().begin(), pending_.line().end()),
       "the whole queue is given back, in order");
  pending_.clear();
  withdrawn_ = 0;
  for (void* what : left)
    if (auto& task = *static_cast<model_task*>(what); task.where != model_task::place::withdrawn)
      end(task, met::ended_with_pool);
  for (index w = 0; w < seats_.size(); ++w)
    for (const auto& [position, task] : core_.take_back(w)) {
      must(seats_[w] && seats_[w]->slots[position].task == task, "a task stands where it was put");
      seats_[w]->let_go(position);
      end(*static_cast<model_task*>(task), met::ended_with_pool);
    }
  for (const auto& one : seats_)
    if (one) one->ordered = true;
  advance_shutdown();
}

void simulation::advance_shutdown() {
  if (finished_ || !core_.drained()) return;
  if (core_.state() == supervisor_core::pool_state::closing && dying_.empty())
    for (index w = 0; w < seats_.size(); ++w) {
      const auto is = core_.state(w);
      if (seats_[w] && is != worker_state::leaving && is != worker_state::doomed) ask_to_leave(w);
    }
  if (core_.present() == 0 && dying_.empty()) finished_ = true;
}

}  // namespace carom::test

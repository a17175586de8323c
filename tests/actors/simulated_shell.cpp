// SPDX-License-Identifier: BSL-1.0
#include <algorithm>

#include "tests/actors/simulation.hpp"

// The shell's part, function by function as in actors/supervisor*.cpp; `must` says what the core
// owes it.
namespace carom::test {

using actors::supervisor_core;

void simulation::end(model_task& task, std::uint64_t& how) {
  ++task.endings;
  ++how;
}

std::uint32_t simulation::window(index w) const {
  const std::uint64_t average = seats_[w]->average_ns;
  if (average == 0) return 4;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(1'000'000 / average, 2, 256));
}

void simulation::fill_seats() {
  while (const auto place = core_.next_start()) {
    if (seats_.size() <= *place) seats_.resize(*place + std::size_t{1});
    must(!seats_[*place], "a worker starts where there is none");
    must(core_.state(*place) == supervisor_core::worker_state::starting, "it is starting");
    seats_[*place] = std::make_unique<model_worker>();
  }
}

void simulation::dispatch() {
  place();
  if (core_.lopsided()) balance();
  if (core_.drained()) advance_shutdown();
  nothing_waits_needlessly();
}

void simulation::place() {
  std::vector<index> touched;
  while (const auto next = core_.next_placement()) {
    auto* task = static_cast<model_task*>(next->what);
    must(!pending_.empty() && task == pending_.front(), "tasks are placed in the queue's order");
    must(core_.state(next->worker) == supervisor_core::worker_state::ready,
         "only a ready worker gets tasks");
    must(seats_[next->worker] && seats_[next->worker]->up, "it is there and has said so");
    model_worker& to = *seats_[next->worker];
    act_between();
    if (!task->sendable) {
      core_.drop_front();
      pending_.pop_front();
      end(*task, seen_.unsendable);
      continue;
    }
    const auto position = dice_.chance(no_room_) ? std::nullopt : to.write(task);
    if (!position) {
      to.refresh();
      core_.refused();
      ++seen_.refused;
      if (to.live == 0) retry_armed_ = true;
      continue;
    }
    must(*position < supervisor_core::ring || !to.slots[*position - supervisor_core::ring].held,
         "a task that is not over keeps its place in the core's ring");
    core_.placed(*position);
    pending_.pop_front();
    must(to.live <= window(next->worker), "no worker is ahead by more than its window");
    touched.push_back(next->worker);
  }
  for (const index w : touched)
    if (seats_[w]) seats_[w]->publish();
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
      ++seen_.revoked_too_late;
      break;
    }
    must(core_.stolen(from.victim, position) == task, "what is stolen is what was revoked");
    victim.let_go(position);
    core_.resubmit(task);
    pending_.push_front(task);
    ++seen_.stolen;
    --wanted;
  }
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
    if (!slot.held) {  // the pool ended under it
      must(core_.finished(w, position) == nullptr, "what was taken back is not finished again");
      continue;
    }
    must(core_.at(w, position) == slot.task, "a task stands where it was put");
    must(core_.finished(w, position) == slot.task, "what is finished is what stood there");
    must(core_.finished(w, position) == nullptr, "nothing is finished twice");
    restarts_.ack();
    from.let_go(position);
    end(*slot.task, seen_.finished);
  }
  act_between();
  from.refresh();
  if (available == 0) return 0;
  from.average_ns = average_ns_;
  core_.set_average(w, average_ns_);
  from.results.erase(from.results.begin(),
                     from.results.begin() + static_cast<std::ptrdiff_t>(available));
  return available;
}

void simulation::worker_up(index w) {
  model_worker& worker = *seats_[w];
  worker.ready_sent = true;
  core_.worker_up(w);
  worker.up = core_.state(w) == supervisor_core::worker_state::ready;
  dispatch();
}

bool simulation::down(index w, bool ordered) {
  using state = supervisor_core::pool_state;
  using verdict = supervisor_core::verdict;
  billiard_restart_state& counted = seats_[w]->up ? restarts_ : start_burst_;
  const bool expected = ordered || core_.state(w) == supervisor_core::worker_state::leaving;
  seats_[w].reset();
  ++seen_.deaths;
  const auto said = core_.worker_down(w, now_ns_, ordered);
  if (core_.state() == state::terminating || core_.state() == state::failed) {
    must(said == verdict::none, "a pool that ends replaces nobody");
    return false;
  }
  if (!expected && !counted.step(now_ns_)) {
    must(said == verdict::give_up, "one death too many is given up");
    must(core_.deaths() == counted.maxR + 1, "it says how many were too many");
    ++seen_.given_up;
    return true;
  }
  must(said != verdict::give_up, "nothing is given up for deaths that are allowed");
  must((said == verdict::restart) != core_.drained(), "who dies is replaced while there is work");
  return false;
}

void simulation::cannot_fork(index w) {
  if (down(w, false)) fail();
  fill_seats();
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
  for (std::size_t i = 0; i < taken.size(); ++i) {
    const auto [position, what] = taken[i];
    must(i == 0 || taken[i - 1].position < position, "in the order of positions");
    model_worker::slot& slot = dead.slots[position];
    must(slot.held && slot.task == what, "a task stands where it was put");
    dead.let_go(position);
    if (position >= dead.head && slot.state == model_worker::claim::queued) {
      back.push_back(slot.task);
      ++seen_.run_again;
      continue;
    }
    core_.accepted();
    restarts_.ack();
    of.lost.push_back(slot.task);
  }
  std::for_each(back.rbegin(), back.rend(), [this](model_task* task) {
    core_.resubmit(task);
    pending_.push_front(task);
  });
  of.gives_up = down(w, dead.ordered);
  dying_.push_back(std::move(of));
  fill_seats();
  dispatch();
}

void simulation::publish_obituary() {
  const obituary of = std::move(dying_.back());
  dying_.pop_back();
  for (model_task* task : of.lost) {
    const bool goes_on = task->chunk && core_.state() <= supervisor_core::pool_state::closing;
    if (goes_on) {
      task->chunk = false;  // its last item
      core_.resubmit(task);
      pending_.push_front(task);
      ++seen_.run_again;
    } else {
      end(*task, seen_.lost);
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
  must(std::equal(left.begin(), left.end(), pending_.begin(), pending_.end()),
       "the whole queue is given back, in order");
  pending_.clear();
  for (void* task : left) end(*static_cast<model_task*>(task), seen_.ended_with_pool);
  for (index w = 0; w < seats_.size(); ++w)
    for (const auto& [position, task] : core_.take_back(w)) {
      must(seats_[w] && seats_[w]->slots[position].task == task, "a task stands where it was put");
      seats_[w]->let_go(position);
      end(*static_cast<model_task*>(task), seen_.ended_with_pool);
    }
  for (const auto& one : seats_)
    if (one) one->ordered = true;
  advance_shutdown();
}

void simulation::advance_shutdown() {
  if (finished_ || !core_.drained()) return;
  if (core_.state() == supervisor_core::pool_state::closing && dying_.empty())
    for (index w = 0; w < seats_.size(); ++w) {
      if (!seats_[w] || core_.state(w) == supervisor_core::worker_state::leaving) continue;
      core_.leaving(w);
      seats_[w]->ordered = true;
    }
  if (core_.present() == 0 && dying_.empty()) finished_ = true;
}

}  // namespace carom::test

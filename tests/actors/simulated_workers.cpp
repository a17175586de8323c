// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <utility>

#include "tests/actors/simulation.hpp"

// Workers that come and go, and the pool's end, function by function as in supervisor_workers.cpp
// and supervisor_shutdown.cpp.
namespace carom::test {

using actors::supervisor_core;

void simulation::fill_seats() {
  fill_later_ = false;
  if (giving_up_) return;
  while (const auto place = core_.next_start(now_ns_)) {
    if (seats_.size() <= *place) seats_.resize(*place + std::size_t{1});
    must(!seats_[*place], "a worker starts where there is none");
    must(core_.state(*place) == worker_state::starting, "it is starting");
    must(now_ns_ >= backoff_.earliest_ns(), "nobody starts sooner after a death than is allowed");
    must(now_ns_ >= pause_.until_ns(), "what the host has no means for is not tried at once again");
    must(late_starts() <= core_.target(), "late starts that are not over yet do not pile up");
    seats_[*place] = std::make_unique<model_worker>();
    seats_[*place]->born_ns = now_ns_;
    look_by(*seats_[*place], actors::after_ns(now_ns_, start_timeout_ns_));
  }
  if (const auto at = core_.next_start_at()) {
    must(*at > now_ns_, "who may start now is started");
    must(*at <= std::max(backoff_.latest_ns(), pause_.until_ns()),
         "nobody has to wait longer than the options say");
    due(*at);
    ++seen_[met::waits_for_start];
  }
}

/// Those who are killed before they were ready, and not dead yet.
std::uint32_t simulation::late_starts() const {
  return static_cast<std::uint32_t>(std::ranges::count_if(
      seats_, [](const auto& one) { return one && one->killed && !one->up; }));
}

void simulation::worker_up(index w) {
  model_worker& worker = *seats_[w];
  const bool starting = core_.state(w) == worker_state::starting;
  worker.ready_sent = true;
  core_.worker_up(w);
  if (starting) {
    worker.up = ever_up_ = true;
    pause_.succeeded();
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
  seen_[met::rolled] += one.to_be_replaced && one.told_to_leave && !ends();
  seats_[w].reset();
  ++seen_[met::deaths];
  const auto said = core_.worker_down(w, now_ns_, ordered);
  if (ends() || giving_up_) {
    must(said == verdict::none, "a pool that ends replaces nobody");
    return false;
  }
  if (!expected) {
    // 0 is any number there, and none here.
    if (counted.maxR == 0 || !counted.step(now_ns_)) {
      must(said == verdict::give_up, "one death too many is given up");
      must(core_.deaths() == counted.maxR + 1, "it says how many were too many");
      ++seen_[met::given_up];
      return true;
    }
    if (!ever_up_ && ++start_failures_ > 10 * options_.processes) {
      must(said == verdict::give_up, "what has never worked is not tried for ever");
      must(core_.deaths() == start_failures_, "it says how many starts failed");
      ++seen_[met::given_up];
      return true;
    }
    backoff_.died(now_ns_);
  }
  must(said != verdict::give_up, "nothing is given up for deaths that are allowed");
  must((said == verdict::restart) != core_.drained(), "who dies is replaced while there is work");
  return false;
}

void simulation::corrupt(index w) {
  model_worker& from = *seats_[w];
  if (from.ordered || from.broken) return;
  from.broken = from.killed = from.counts = true;
  core_.condemn(w, true);
  must(core_.state(w) == worker_state::doomed, "who breaks the rules gets nothing more");
  ++seen_[met::corrupt];
}

void simulation::cannot_fork(index w) {
  if (down(w, false))
    fail();
  else
    fill_later_ = true;
  advance_shutdown();
}

void simulation::starve(index w) {
  down(w, true);
  bool works = false, starts = false;
  for (index other = 0; other < core_.worker_count(); ++other) {
    const auto is = core_.state(other);
    starts |= is == worker_state::starting;
    works |=
        is == worker_state::ready || is == worker_state::retiring || is == worker_state::standby;
  }
  const bool goes_on = pause_.failed(now_ns_, works, starts) || ends();
  must(core_.starved(now_ns_) == goes_on, "it is given up once nobody has been there for long");
  ++seen_[goes_on ? met::starved : met::starved_to_death];
  if (goes_on)
    fill_later_ = true;
  else
    fail();
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
    if (!dead.broken && position >= dead.head && slot.state == model_worker::claim::queued) {
      core_.not_begun();
      rate_.give_back(now_ns_);
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
    if (!stopped && retry(*task)) continue;
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

bool simulation::retry(model_task& task) {
  if (ends() || task.retries == 0) return false;
  --task.retries;
  ++seen_[met::retried];
  if (task.retry_after_ns == 0) {
    enqueue(task, true);
    return true;
  }
  task.where = model_task::place::delayed;
  delayed_.emplace(now_ns_ + task.retry_after_ns, &task);
  due(delayed_.begin()->first);
  return true;
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
  for (const auto& [at, task] : std::exchange(delayed_, {})) end(*task, met::ended_with_pool);
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
  if (finished_ || !core_.drained() || !delayed_.empty()) return;
  if (core_.state() == supervisor_core::pool_state::closing && dying_.empty())
    for (index w = 0; w < seats_.size(); ++w) {
      const auto is = core_.state(w);
      if (seats_[w] && is != worker_state::leaving && is != worker_state::doomed) ask_to_leave(w);
    }
  if (core_.present() == 0 && dying_.empty()) finished_ = true;
}

}  // namespace carom::test

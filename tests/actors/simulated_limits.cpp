// SPDX-License-Identifier: BSL-1.0
#include <algorithm>

#include "tests/actors/simulation.hpp"

// The shell's part in what the clock brings and in what applications ask, function by function as
// in actors/supervisor_clock.cpp, supervisor_limits.cpp and supervisor_requests.cpp.
namespace carom::test {

using actors::after_ns;
using actors::judge;
using actors::limit_verdict;
using actors::never_ns;
using claim = model_worker::claim;

namespace {

constexpr std::int64_t scale_every_ns = 1'000'000;
constexpr std::int64_t soon_ns = 100'000;

}  // namespace

void simulation::look_by(model_worker& at, std::int64_t at_ns) {
  if (at_ns >= at.look_at_ns) return;
  at.look_at_ns = at_ns;
  due(at_ns);
}

void simulation::look_around() {
  watch_at_ns_ = never_ns;
  for (index w = 0; w < seats_.size(); ++w)
    if (seats_[w] && seats_[w]->look_at_ns <= now_ns_) look(w);
  begin_delayed();
  if (scale_at_ns_ <= now_ns_) scale();
  fill_seats();
  dispatch();
  for (const auto& one : seats_)
    if (one) due(one->look_at_ns);
  due(scale_at_ns_);
  if (!delayed_.empty()) due(delayed_.begin()->first);
  if (const auto at = core_.next_start_at()) due(std::max(*at, now_ns_ + 1));
  if (const auto at = core_.next_token_at(now_ns_)) due(*at);
}

void simulation::look(index w) {
  model_worker& at = *seats_[w];
  at.look_at_ns = never_ns;
  std::int64_t again = never_ns;
  const auto is = core_.state(w);
  if (is == worker_state::starting)
    again = look_at_start(w);
  else if (is == worker_state::ready || is == worker_state::retiring)
    again = look_at_tasks(w);
  look_by(at, again);
}

std::int64_t simulation::look_at_start(index w) {
  model_worker& at = *seats_[w];
  const std::int64_t deadline = after_ns(at.born_ns, start_timeout_ns_);
  if (now_ns_ < deadline) return deadline;
  at.counts = at.killed = true;
  core_.condemn(w, true);
  fill_later_ = true;
  ++seen_[met::late_starts];
  return never_ns;
}

// --- time limits ---------------------------------------------------------------------------------

std::int64_t simulation::look_at_tasks(index w) {
  drain(w);
  model_worker& at = *seats_[w];
  if (at.broken || core_.live(w) == 0) return never_ns;
  std::int64_t again = never_ns;
  bool running = false;
  const std::uint64_t tail = core_.tail(w);
  std::uint64_t first = ~tail;
  for (std::uint64_t position = std::max(core_.first(w), at.seen_head); position < tail;
       ++position) {
    auto* task = static_cast<model_task*>(core_.at(w, position));
    if (!task) continue;
    act_between();
    if (at.slots[position].state == claim::running) {
      running = true;
      again = std::min(again, look_at_running(w, position, *task));
      if (core_.state(w) == worker_state::doomed) return again;
    } else {
      if (at.slots[position].state == claim::queued) first = std::min(first, position);
      again = std::min(again, after_ns(now_ns_, task->limits.first_ns()));
    }
  }
  if (running) {
    at.stood_at = UINT64_MAX;
    return std::min(again, after_ns(now_ns_, claim_deadline_ns_));
  }
  if (at.stood_at != first) {
    at.stood_at = first;
    at.stood_since_ns = now_ns_;
  }
  const std::int64_t hung_at = after_ns(at.stood_since_ns, claim_deadline_ns_);
  if (now_ns_ < hung_at) return std::min(again, hung_at);
  if (dice_.chance(50)) at.act(now_ns_);
  take_unbegun(w);
  if (first < tail && core_.live(w) != 0) {
    ++seen_[met::begun_too_late];
    return std::min(again, now_ns_ + soon_ns);
  }
  const std::int64_t placed_ns = first < tail ? at.slots[first].placed_ns : 0;
  must(now_ns_ - std::max(placed_ns, at.finished_ns) >= claim_deadline_ns_,
       "nobody hangs who has not had a task for so long");
  must(!at.running(), "who hangs runs nothing that the kill could meet");
  rule_hung(w);
  return never_ns;
}

std::int64_t simulation::look_at_running(index w, std::uint64_t position, model_task& task) {
  model_worker& at = *seats_[w];
  model_worker::slot& slot = at.slots[position];
  if (!task.limits.any()) return never_ns;
  const auto verdict = judge(task.limits, slot.started_ns, at.soft_key == position, now_ns_);
  const std::int64_t ran_ns = now_ns_ - slot.started_ns;
  switch (verdict.what) {
    case limit_verdict::action::none:
      must(verdict.look_again_ns > now_ns_, "what is not over now is looked at later");
      break;
    case limit_verdict::action::soft:
      must(ran_ns >= task.limits.soft_ns, "no soft limit comes early");
      must(!slot.soft_passed, "a soft limit comes once");
      slot.soft_passed = true;
      at.soft_key = position;
      ++seen_[met::soft_passed];
      break;
    case limit_verdict::action::hard:
      if (!pass_hard_limit(w, position, task)) {
        ++seen_[met::condemned_too_late];
        return now_ns_ + soon_ns;
      }
      must(ran_ns >= task.limits.hard_ns, "no hard limit comes early");
      return at.look_at_ns;
  }
  return verdict.look_again_ns;
}

bool simulation::pass_hard_limit(index w, std::uint64_t position, model_task& task) {
  act_between();
  if (!task.chunk) return stop_running(w, position, task, met::timed_out, true);
  model_worker& at = *seats_[w];
  if (!at.condemn(position)) return false;
  drain(w);
  must(core_.ended(w, position) == &task, "what is ended is what ran");
  at.let_go(position);
  task.chunk = false;  // its last item
  enqueue(task, true);
  ++seen_[met::items_timed_out];
  take_unbegun(w);
  kill(w);
  return true;
}

// --- ends ----------------------------------------------------------------------------------------

bool simulation::stop_running(index w, std::uint64_t position, model_task& task, met how,
                              bool whole) {
  model_worker& at = *seats_[w];
  if (!at.condemn(position)) return false;
  if (task.chunk) {
    at.stopped = {position, how, whole};
  } else {
    must(core_.ended(w, position) == &task, "what is ended is what ran");
    must(core_.ended(w, position) == nullptr, "nothing is ended twice");
    at.let_go(position);
    end(task, how);
  }
  take_unbegun(w);
  kill(w);
  return true;
}

void simulation::take_unbegun(index w) {
  model_worker& from = *seats_[w];
  std::vector<model_task*> back;
  for (std::uint64_t position = core_.first(w); position < core_.tail(w); ++position) {
    auto* task = static_cast<model_task*>(core_.at(w, position));
    if (!task || !from.revoke(position)) continue;
    take_unbegun_one(w, position);
    back.push_back(task);
    act_between();
  }
  for (auto it = back.rbegin(); it != back.rend(); ++it) enqueue(**it, true);
}

void simulation::kill(index w) {
  core_.condemn(w);
  must(core_.state(w) == worker_state::doomed, "who is to be killed is doomed");
  seats_[w]->ordered = true;
  seats_[w]->killed = true;
  fill_later_ = true;
}

void simulation::begin_delayed() {
  while (!delayed_.empty() && delayed_.begin()->first <= now_ns_) {
    model_task* const task = delayed_.begin()->second;
    delayed_.erase(delayed_.begin());
    enqueue(*task, true);
  }
}

void simulation::rule_hung(index w) {
  core_.condemn(w, true);
  seats_[w]->counts = seats_[w]->killed = true;
  fill_later_ = true;
  ++seen_[met::hung];
}

// --- what applications ask -----------------------------------------------------------------------

bool simulation::cancel(model_task& task) {
  if (task.endings != 0) return false;
  switch (task.where) {
    case model_task::place::queue:
      task.where = model_task::place::withdrawn;
      ++withdrawn_;
      end(task, met::cancelled);
      break;
    case model_task::place::worker:
      must(seats_[task.worker] && core_.at(task.worker, task.position) == &task,
           "a task stands where it was put");
      if (!seats_[task.worker]->revoke(task.position)) return false;
      take_unbegun_one(task.worker, task.position);
      end(task, met::cancelled);
      break;
    case model_task::place::delayed:
    case model_task::place::nowhere:
    case model_task::place::withdrawn: return false;
  }
  go_on_later_ = true;
  return true;
}

void simulation::stop(model_task& task) {
  if (task.endings != 0 || cancel(task)) return;
  if (task.where == model_task::place::delayed) {
    std::erase_if(delayed_, [&](const auto& one) { return one.second == &task; });
    end(task, met::stopped);
    go_on_later_ = true;
  }
  if (task.where != model_task::place::worker) return;
  act_between();
  if (stop_running(task.worker, task.position, task, met::stopped, dice_.chance(50)))
    go_on_later_ = true;
  else
    ++seen_[met::condemned_too_late];
}

void simulation::set_target(std::uint32_t target) {
  core_.set_target(target);
  must(core_.target() == std::max(target, 1u), "there are to be as many as were asked for");
}

void simulation::scale() {
  scale_at_ns_ = never_ns;
  if (!autoscaler_ || !core_.accepts()) return;
  const std::uint32_t before = core_.target();
  const std::uint32_t serving = core_.serving();
  const std::uint64_t waiting = core_.pending() - withdrawn_;
  bool behind = false;
  std::uint32_t at_work = 0;
  for (index w = 0; w < core_.worker_count(); ++w) {
    behind |= core_.live(w) > 1;
    at_work += core_.state(w) == worker_state::ready || core_.state(w) == worker_state::retiring;
  }
  behind &= at_work <= before;
  must(behind == (core_.behind() != 0), "it knows of tasks that stand behind others");
  const std::uint32_t after =
      autoscaler_->look(before, waiting, core_.behind(), core_.idle(), serving, now_ns_);
  must(after == scaling_->look(before, waiting != 0, behind, core_.idle() != 0, serving >= before,
                               now_ns_),
       "one more at a time where tasks wait and nobody idles, one less where somebody idles long");
  // Whoever has made it larger than its rule allows may lose busy ones.
  spares_idle_ = after + 1 == before && core_.idle() != 0 && waiting == 0 && serving <= before;
  seen_[met::scaled_up] += after > before;
  seen_[met::scaled_down] += after < before;
  set_target(after);
  scale_at_ns_ = after_ns(now_ns_, scale_every_ns);
}

void simulation::restart_all() {
  core_.restart_all();
  for (index w = 0; w < seats_.size(); ++w)
    if (seats_[w] && seats_[w]->up) seats_[w]->to_be_replaced = true;
  fill_later_ = true;
  ++seen_[met::restarts];
}

}  // namespace carom::test

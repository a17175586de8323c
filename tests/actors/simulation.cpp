// SPDX-License-Identifier: BSL-1.0
#include "tests/actors/simulation.hpp"

#include <algorithm>
#include <utility>

namespace carom::test {

using actors::never_ns;
using actors::supervisor_core;

namespace {

/// More wait for nobody: they only take time when the pool is closed.
constexpr std::size_t most_pending = 1'000;

actors::restart_backoff::rule roll_backoff(dice& chance) {
  if (chance.chance(60)) return {};
  const std::int64_t initial = chance.one_of<std::int64_t>({1'000, 1'000'000});
  return {.initial_ns = initial,
          .multiplier = chance.one_of({1.0, 2.0, 3.0}),
          .max_ns = initial * chance.one_of<std::int64_t>({1, 5, 1'000}),
          .reset_after_ns = chance.one_of<std::int64_t>({0, 100'000, 1'000'000'000}),
          .jitter = chance.one_of({0.0, 0.1, 1.0})};
}

supervisor_core::options roll_options(dice& chance) {
  supervisor_core::options o;
  o.processes = chance.one_of({1u, 1u, 2u, 2u, 3u, 4u, 7u});
  o.max_restarts = chance.one_of({0u, 1u, 3u, 100u});
  o.period_ns = chance.one_of<std::int64_t>({1'000, 1'000'000'000});
  o.max_tasks_per_child = chance.one_of({0u, 0u, 0u, 1u, 2u, 3u, 20u});
  o.backoff = roll_backoff(chance);
  o.start_patience_ns = chance.one_of<std::int64_t>({1, 1'000'000, 10'000'000'000});
  if (chance.chance(20)) {
    o.task_interval_ns = chance.one_of<std::int64_t>({1, 10'000, 5'000'000});
    o.task_burst = chance.one_of({1u, 2u, 10u});
  }
  o.seed = chance.roll();
  return o;
}

}  // namespace

simulation::simulation(std::uint64_t seed)
    : dice_(seed),
      seed_(seed),
      options_(roll_options(dice_)),
      core_(options_),
      seats_(options_.processes),
      restarts_{options_.max_restarts, options_.period_ns},
      start_burst_{10 * options_.processes, 1'000'000'000},
      backoff_(options_.backoff),
      pause_(options_.start_patience_ns),
      rate_(options_.task_interval_ns, options_.task_burst),
      target_(options_.processes) {
  roll_profile();
}

/// Schedules differ in kind: in each, some events come often and some never, so that rare states
/// are reached deeply.
void simulation::roll_profile() {
  const auto weigh = [this](event what, std::initializer_list<std::uint32_t> choices) {
    weight_ += weights_[static_cast<std::size_t>(what)] = dice_.one_of(choices);
  };
  weigh(event::submit, {5, 20, 60});
  weigh(event::act, {20, 60, 60});
  weigh(event::poll, {5, 20, 60});
  weigh(event::dispatch, {0, 5});
  weigh(event::balance, {2, 10, 30});
  weigh(event::retry, {2, 10, 30});
  weigh(event::up, {5, 20, 50});
  weigh(event::die, {0, 1, 5, 20});
  weigh(event::corrupt, {0, 0, 0, 2});
  weigh(event::bury, {5, 20});
  weigh(event::obituary, {5, 20});
  weigh(event::pass, {0, 5, 20});
  weigh(event::look, {2, 10, 30});
  weigh(event::close, {0, 0, 1});
  weigh(event::terminate, {0, 0, 0, 1});
  weigh(event::cannot_fork, {0, 0, 1, 10});
  weigh(event::starve, {0, 0, 5, 20});
  weigh(event::hang, {0, 0, 2, 10});
  weigh(event::stall, {0, 0, 2, 10});
  weigh(event::swell, {0, 0, 2, 10});
  weigh(event::grow, {0, 0, 2, 10});
  weigh(event::shrink, {0, 0, 2, 10});
  weigh(event::restart, {0, 0, 1, 5});
  weigh(event::cancel, {0, 0, 5, 20});
  weigh(event::stop, {0, 0, 5, 20});
  const bool long_one = dice_.chance(1);
  steps_ = long_one ? 1500 : 10 + dice_.below(dice_.one_of({40u, 100u, 250u}));
  largest_burst_ = dice_.one_of({1u, 3u, 3u, 10u, long_one ? 500u : 40u});
  eagerness_ = dice_.one_of({0u, 1u, 5u, 20u});
  no_room_ = dice_.one_of({0u, 0u, 5u, 50u});
  chunks_ = dice_.one_of({0u, 50u});
  unsendable_ = dice_.one_of({0u, 0u, 10u});
  hung_ = dice_.one_of({0u, 30u, 100u});
  limited_ = dice_.one_of({0u, 0u, 30u, 100u});
  slow_ = dice_.one_of({0u, 20u, 100u});
  retried_ = dice_.one_of({0u, 50u});
  pace_ns_ = dice_.one_of({10u, 10'000u, 10'000'000u, 600'000'000u});
  priorities_ = dice_.one_of({0, 0, 1, 3});
  if (dice_.chance(40)) claim_deadline_ns_ = dice_.one_of<std::int64_t>({100'000, 20'000'000});
  if (dice_.chance(30)) start_timeout_ns_ = dice_.one_of<std::int64_t>({10'000, 1'000'000'000});
  if (dice_.chance(20)) {
    const actors::autoscaler::rule rule{
        .min = 1 + static_cast<std::uint32_t>(dice_.below(options_.processes)),
        .max = options_.processes + static_cast<std::uint32_t>(dice_.below(4)),
        .idle_ns = dice_.one_of<std::int64_t>({0, 1'000'000, 100'000'000})};
    autoscaler_.emplace(rule);
    scaling_.emplace(rule);
  }
}

void simulation::run() {
  scale();
  fill_seats();
  while (steps_-- != 0 && !finished_) {
    std::uint64_t drawn = dice_.below(weight_);
    std::size_t what = 0;
    while (drawn >= weights_[what]) drawn -= weights_[what++];
    happen(static_cast<event>(what));
    // What the loop was asked to do later.
    if (fill_later_ && !finished_ && dice_.chance(80)) fill_seats();
    if (go_on_later_ && !finished_ && dice_.chance(80)) go_on();
    compare_books();
  }
  end_peacefully();
  for (const model_task& task : tasks_) must(task.endings == 1, "each task ends exactly once");
}

void simulation::happen(event what) {
  const auto somebody = static_cast<index>(dice_.below(seats_.size()));
  model_worker* const one = seats_[somebody].get();
  switch (what) {
    // The inbox is closed later than the pool: what comes meanwhile is still done.
    case event::submit:
      if (!ends() && pending_.size() < most_pending) submit(1 + dice_.below(largest_burst_));
      break;
    case event::act: act_between(); break;
    case event::poll:
      average_ns_ = dice_.one_of({0ul, 50ul, 3'000ul, 30'000ul, 400'000ul, 20'000'000'000ul});
      poll();
      break;
    case event::dispatch: dispatch(); break;
    case event::balance:
      if (balance_armed_) balance_timer();
      break;
    case event::retry:
      if (retry_armed_) retry_timer();
      break;
    case event::up:
      // Late, from one that has been told to go, or twice.
      if (one && (!one->ready_sent || dice_.chance(5))) worker_up(somebody);
      break;
    case event::die:
      if (one) {
        one->dead = true;
        one->ordered |= dice_.chance(20);
      }
      break;
    case event::corrupt:
      if (one) corrupt(somebody);
      break;
    case event::bury:
      if (one && (one->dead || one->killed || ends())) bury(somebody);
      break;
    case event::obituary:
      if (!dying_.empty()) publish_obituary();
      break;
    case event::pass: now_ns_ += static_cast<std::int64_t>(dice_.below(pace_ns_)); break;
    case event::look:
      if (watch_at_ns_ != never_ns && dice_.chance(50)) now_ns_ = std::max(now_ns_, watch_at_ns_);
      if (watch_at_ns_ <= now_ns_) look_around();
      break;
    case event::close: close(); break;
    case event::terminate: terminate(); break;
    case event::cannot_fork:
      if (one && !one->ready_sent && !one->dead) cannot_fork(somebody);
      break;
    case event::starve:
      if (one && !one->ready_sent && !one->dead) starve(somebody);
      break;
    case event::hang:
      if (one) one->hung = one->running() && dice_.chance(70);
      break;
    case event::stall:
      if (one) one->stalled = dice_.chance(70);
      break;
    case event::swell:
      if (one) one->too_big = true;
      break;
    case event::grow:
      if (ends() || core_.target() > 12) break;
      set_target(core_.target() + 1 + static_cast<std::uint32_t>(dice_.below(3)));
      fill_later_ = true;
      ++seen_[met::grown];
      break;
    case event::shrink:
      if (ends() || core_.target() == 1) break;
      set_target(core_.target() - 1 - static_cast<std::uint32_t>(dice_.below(core_.target() - 1)));
      go_on_later_ = true;
      ++seen_[met::shrunk];
      break;
    case event::restart:
      if (!ends()) restart_all();
      break;
    case event::cancel:
      if (model_task* task = some_task()) cancel(*task);
      break;
    case event::stop:
      if (model_task* task = some_task()) stop(*task);
      break;
    case event::count: break;
  }
}

void simulation::submit(std::uint64_t count) {
  const auto limit = [this] {
    return dice_.one_of<std::int64_t>({never_ns, 100, 100'000, 50'000'000});
  };
  for (; count != 0; --count) {
    model_task& task = tasks_.emplace_back();
    task.chunk = dice_.chance(chunks_);
    task.sendable = !dice_.chance(unsendable_);
    if (priorities_ != 0)
      task.priority =
          static_cast<int>(dice_.below(static_cast<std::uint64_t>(2 * priorities_ + 1))) -
          priorities_;
    if (dice_.chance(limited_)) task.limits = {limit(), limit()};
    if (dice_.chance(slow_)) task.takes_ns = dice_.one_of<std::int64_t>({50, 50'000, 60'000'000});
    task.heeds = dice_.chance(50);
    if (dice_.chance(retried_)) {
      task.retries = 1 + static_cast<int>(dice_.below(2));
      task.retry_after_ns = dice_.one_of<std::int64_t>({0, 1'000, 10'000'000});
    }
    enqueue(task, false);
    ++seen_[met::tasks];
  }
}

/// One that waits, or one that a worker has.
model_task* simulation::some_task() {
  if (tasks_.empty()) return nullptr;
  const model_worker* const one = seats_[dice_.below(seats_.size())].get();
  if (one && one->running() && one->slots[one->head].held && dice_.chance(30))
    return one->slots[one->head].task;
  if (one && one->live != 0 && dice_.chance(70)) {
    std::uint64_t nth = dice_.below(one->live);
    for (auto slot = one->slots.rbegin(); slot != one->slots.rend(); ++slot)
      if (slot->held && nth-- == 0) return slot->task;
  }
  if (!pending_.empty() && dice_.chance(70)) return pending_.line()[dice_.below(pending_.size())];
  return &tasks_[dice_.below(tasks_.size())];
}

/// Workers run whenever they like: between any two things that the host does.
void simulation::act_between() {
  if (eagerness_ == 0) return;
  model_worker* const one = seats_[dice_.below(seats_.size())].get();
  for (std::uint64_t acts = dice_.below(eagerness_ + 1); one && acts != 0; --acts)
    if (!one->act(now_ns_)) return;
}

/// From now on nobody dies by itself. Workers may hang in a task: the others must be able to do the
/// rest.
void simulation::end_peacefully() {
  eagerness_ = std::max<std::uint64_t>(eagerness_, 1);
  no_room_ = 0;
  for (const auto& one : seats_) {
    if (!one) continue;
    one->hung = one->running() && dice_.chance(hung_);
    if (claim_deadline_ns_ == never_ns) one->stalled = false;
  }
  let_all_work();
  if (!finished_ && !ends() && (core_.accepts() || !core_.drained())) at_rest();
  for (const auto& one : seats_)
    if (one) one->hung = one->stalled = false;
  if (!finished_) close();
  let_all_work();
  must(finished_, "a closed pool ends");
  must(core_.drained() && core_.present() == 0 && core_.under_way() == 0, "nothing is left in it");
  must(core_.pending() == 0 && withdrawn_ == 0, "not even what was cancelled");
  must(!core_.next_start(now_ns_), "nobody starts in a pool that has ended");
}

void simulation::let_all_work() {
  std::uint64_t acts = 0;
  const auto progress = [&] {
    return acts + seen_.ended() + seen_[met::stolen] + seen_[met::deaths] + seen_[met::run_again] +
           seen_[met::items_timed_out] + seen_[met::left] + seen_[met::hung] +
           seen_[met::late_starts] + seen_[met::retried];
  };
  std::int64_t pause_ns = 1'000;
  int rounds = 0;
  // A task may need a few rounds: a worker that comes, a timer that fires, a theft. Each that
  // brings nothing is followed by a longer pause.
  for (int quiet = 0; quiet < 8 && !finished_; ++quiet, pause_ns *= 10) {
    must(++rounds < 20'000, "a pool that is left alone comes to rest");
    const std::uint64_t before = progress();
    for (index w = 0; w < seats_.size(); ++w) {
      model_worker* const one = seats_[w].get();
      if (!one) continue;
      const bool goes = one->told_to_leave && one->stalled;
      if (one->dead || one->killed || goes || ends())
        bury(w);
      else if (!one->ready_sent)
        worker_up(w);
    }
    while (!dying_.empty()) publish_obituary();
    if (finished_) break;
    for (const auto& one : seats_)
      while (one && one->act(now_ns_)) ++acts;
    poll();
    if (fill_later_) fill_seats();
    if (go_on_later_) go_on();
    if (balance_armed_) balance_timer();
    if (retry_armed_) retry_timer();
    now_ns_ += pause_ns;
    if (watch_at_ns_ <= now_ns_) look_around();
    compare_books();
    if (before != progress()) quiet = -1, pause_ns = 100;
  }
}

}  // namespace carom::test

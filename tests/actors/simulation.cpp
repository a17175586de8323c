// SPDX-License-Identifier: BSL-1.0
#include "tests/actors/simulation.hpp"

#include <algorithm>
#include <utility>

namespace carom::test {

using actors::supervisor_core;

namespace {

supervisor_core::options roll_options(dice& chance) {
  return {.processes = chance.one_of({1u, 2u, 2u, 3u, 4u, 7u}),
          .max_restarts = chance.one_of({0u, 1u, 3u, 100u}),
          .period_ns = chance.one_of({std::int64_t{1'000}, std::int64_t{1'000'000'000}})};
}

}  // namespace

simulation::simulation(std::uint64_t seed)
    : dice_(seed),
      seed_(seed),
      options_(roll_options(dice_)),
      core_(options_),
      seats_(options_.processes),
      restarts_{options_.max_restarts, options_.period_ns},
      start_burst_{10 * options_.processes, 1'000'000'000} {
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
  weigh(event::up, {2, 10, 30});
  weigh(event::die, {0, 0, 1, 5, 20});
  weigh(event::bury, {5, 20});
  weigh(event::obituary, {5, 20});
  weigh(event::pass, {0, 5});
  weigh(event::close, {0, 0, 1});
  weigh(event::terminate, {0, 0, 0, 1});
  weigh(event::cannot_fork, {0, 0, 1, 10});
  weigh(event::hang, {0, 0, 2});
  const bool long_one = dice_.chance(2);
  steps_ = long_one ? 1500 : 20 + dice_.below(100);
  largest_burst_ = dice_.one_of({1u, 3u, 3u, 20u, long_one ? 500u : 100u});
  eagerness_ = dice_.one_of({0u, 1u, 5u, 100u});
  no_room_ = dice_.one_of({0u, 0u, 5u, 50u});
  chunks_ = dice_.one_of({0u, 50u});
  unsendable_ = dice_.one_of({0u, 0u, 10u});
  hung_ = dice_.one_of({0u, 30u, 100u});
}

void simulation::run() {
  fill_seats();
  while (steps_-- != 0 && !finished_) {
    std::uint64_t drawn = dice_.below(weight_);
    std::size_t what = 0;
    while (drawn >= weights_[what]) drawn -= weights_[what++];
    happen(static_cast<event>(what));
    compare_books();
  }
  end_peacefully();
  for (const model_task& task : tasks_) must(task.endings == 1, "each task ends exactly once");
}

void simulation::happen(event what) {
  const auto somebody = static_cast<index>(dice_.below(seats_.size()));
  model_worker* const one = seats_[somebody].get();
  const auto state = one ? core_.state(somebody) : supervisor_core::worker_state::none;
  using worker = supervisor_core::worker_state;
  switch (what) {
    // The inbox is closed later than the pool: what comes meanwhile is still done.
    case event::submit:
      if (core_.state() <= supervisor_core::pool_state::closing)
        submit(1 + dice_.below(largest_burst_));
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
      if (state == worker::starting || (one && dice_.chance(5))) worker_up(somebody);
      break;
    case event::die:
      if (one) {
        one->dead = true;
        one->ordered |= dice_.chance(20);
      }
      break;
    case event::bury:
      if (one && (one->dead || (state == worker::leaving && one->results.empty()) ||
                  core_.state() > supervisor_core::pool_state::closing))
        bury(somebody);
      break;
    case event::obituary:
      if (!dying_.empty()) publish_obituary();
      break;
    case event::pass: now_ns_ += static_cast<std::int64_t>(dice_.below(600'000'000)); break;
    case event::close: close(); break;
    case event::terminate: terminate(); break;
    case event::cannot_fork:
      if (state == worker::starting) cannot_fork(somebody);
      break;
    case event::hang:
      if (one) one->hung = one->running() && dice_.chance(70);
      break;
    case event::count: break;
  }
}

void simulation::submit(std::uint64_t count) {
  for (; count != 0; --count) {
    tasks_.push_back({.chunk = dice_.chance(chunks_), .sendable = !dice_.chance(unsendable_)});
    core_.submit(&tasks_.back());
    pending_.push_back(&tasks_.back());
    ++seen_.tasks;
  }
}

/// Workers run whenever they like: between any two things that the host does.
void simulation::act_between() {
  if (eagerness_ == 0) return;
  model_worker* const one = seats_[dice_.below(seats_.size())].get();
  for (std::uint64_t acts = dice_.below(eagerness_ + 1); one && acts != 0; --acts)
    if (!one->act()) return;
}

/// From now on nobody dies. Workers may hang in a task: the others must be able to do the rest.
void simulation::end_peacefully() {
  eagerness_ = std::max<std::uint64_t>(eagerness_, 1);
  no_room_ = 0;
  for (const auto& one : seats_)
    if (one) one->hung = one->running() && dice_.chance(hung_);
  let_all_work();
  std::uint32_t hung = 0;
  for (const auto& one : seats_) hung += one && one->hung;
  if (!finished_ && hung < seats_.size() && core_.state() <= supervisor_core::pool_state::closing) {
    must(core_.pending() == 0, "with one worker left that works, no task waits for ever");
    must(core_.under_way() == hung, "nothing is stuck behind a task that does not end");
  }
  for (const auto& one : seats_)
    if (one) one->hung = false;
  if (!finished_) close();
  let_all_work();
  must(finished_, "a closed pool ends");
  must(core_.drained() && core_.present() == 0 && core_.under_way() == 0, "nothing is left in it");
  must(!core_.next_start(), "nobody starts in a pool that has ended");
}

void simulation::let_all_work() {
  const auto ended = [this] {
    return seen_.finished + seen_.lost + seen_.ended_with_pool + seen_.unsendable;
  };
  // A task may need a few rounds: a worker that comes, a timer that fires, a theft.
  for (int quiet = 0; quiet < 10; ++quiet) {
    const std::uint64_t before = ended() + seen_.stolen + seen_.deaths;
    for (index w = 0; w < seats_.size(); ++w) {
      if (!seats_[w]) continue;
      const bool ends = core_.state(w) == supervisor_core::worker_state::leaving ||
                        core_.state() > supervisor_core::pool_state::closing;
      if (seats_[w]->dead || ends)
        bury(w);
      else if (core_.state(w) == supervisor_core::worker_state::starting)
        worker_up(w);
    }
    while (!dying_.empty()) publish_obituary();
    for (const auto& one : seats_)
      while (one && one->act()) {
      }
    poll();
    if (balance_armed_) balance_timer();
    if (retry_armed_) retry_timer();
    compare_books();
    if (before != ended() + seen_.stolen + seen_.deaths) quiet = 0;
  }
}

void simulation::nothing_waits_needlessly() {
  bool idle = false;
  for (index w = 0; w < seats_.size(); ++w)
    idle |= core_.state(w) == supervisor_core::worker_state::ready && core_.live(w) == 0;
  must(!idle || core_.pending() == 0 || retry_armed_, "no task waits while a worker idles");
  must(!core_.lopsided() || balance_armed_, "an idle worker is given some of another's later");
}

void simulation::compare_books() const {
  std::uint32_t present = 0;
  std::uint64_t under_way = 0, spare = 0;
  bool idle = false;
  for (index w = 0; w < seats_.size(); ++w) {
    const auto& one = seats_[w];
    must((core_.state(w) != supervisor_core::worker_state::none) == (one != nullptr),
         "it knows who is there");
    const std::uint32_t live = one ? one->live : 0;
    must(core_.live(w) == live, "it knows how many tasks each worker has");
    present += one != nullptr;
    under_way += live;
    spare += live > 1 ? live - 1 : 0;
    idle |= core_.state(w) == supervisor_core::worker_state::ready && live == 0;
  }
  must(core_.present() == present, "it knows how many are there");
  must(core_.under_way() == under_way, "it knows how many tasks are under way");
  must(core_.pending() == pending_.size(), "it knows how many tasks wait");
  must(core_.lopsided() == (idle && spare != 0 && pending_.empty()),
       "it knows whether one idles while another has tasks to spare");
  must(core_.drained() == (!core_.accepts() && under_way == 0 && pending_.empty()),
       "it knows whether all is done");
}

void simulation::must(bool holds, const char* promise) const {
  if (!holds)
    throw broken_promise(std::string("not kept: ") + promise + " (seed " + std::to_string(seed_) +
                         ")");
}

}  // namespace carom::test

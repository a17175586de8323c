// SPDX-License-Identifier: BSL-1.0
#include <algorithm>

#include "tests/actors/simulation.hpp"

namespace carom::test {

using actors::supervisor_core;

/// After tasks have been placed.
void simulation::given_fairly(const std::vector<index>& who) const {
  // Who is known to do tiny tasks is given a handful that is worth to be woken for, if there is a
  // long queue: less, or nothing, is left for the others.
  constexpr std::uint64_t tiny_ns = 20'000;
  std::uint32_t most = 0;
  for (const index w : who) {
    const std::uint64_t each = seats_[w]->average_ns;
    if (each != 0 && each < tiny_ns && core_.live(w) >= 4) return;
    most = std::max(most, core_.live(w));
  }
  if (most <= 1) return;
  for (index w = 0; w < seats_.size(); ++w)
    must(core_.state(w) != worker_state::ready || core_.live(w) != 0 || seats_[w]->full,
         "nobody is given a second task while another idles");
}

/// After each dispatch. A pool that ends by force gives nobody a task or a place any more.
void simulation::nothing_waits_needlessly() const {
  if (ends()) return;
  bool idle = false;
  std::uint32_t seated = 0, standby = 0;
  for (index w = 0; w < seats_.size(); ++w) {
    const auto is = core_.state(w);
    if (is == worker_state::ready && core_.live(w) == 0) {
      must(!seats_[w]->full || retry_armed_, "whose ring has had no room is asked again");
      idle |= !seats_[w]->full;
    }
    seated += is == worker_state::ready || is == worker_state::retiring;
    standby += is == worker_state::standby;
    must(is != worker_state::retiring || core_.live(w) != 0,
         "who has retired and done all is told to leave");
  }
  must(!idle || core_.pending() == 0 || core_.next_token_at(now_ns_),
       "no task waits while a worker idles");
  must(core_.pending() != withdrawn_ || withdrawn_ == 0,
       "what has been cancelled waits for nobody");
  must(!core_.lopsided(now_ns_) || balance_armed_,
       "an idle worker is given some of another's later");
  must(standby == 0 || seated >= core_.target(), "nobody stands by while a place is free");
  if (const auto at = core_.next_start_at(); at && !giving_up_)
    must(*at > now_ns_ && watch_at_ns_ <= *at, "who is missing starts as soon as may be");
}

/// After each event.
void simulation::compare_books() {
  std::uint32_t present = 0, starting = 0, standby = 0, ready = 0, busy = 0, seated = 0;
  std::uint64_t under_way = 0, spare = 0;
  for (index w = 0; w < seats_.size(); ++w) {
    const auto& one = seats_[w];
    const auto is = core_.state(w);
    must((is != worker_state::none) == (one != nullptr), "it knows who is there");
    const std::uint32_t live = one ? one->live : 0;
    must(core_.live(w) == live, "it knows how many tasks each worker has");
    present += one != nullptr;
    under_way += live;
    spare += live > 1 ? live - 1 : 0;
    starting += is == worker_state::starting;
    standby += is == worker_state::standby;
    ready += is == worker_state::ready;
    busy += is == worker_state::ready && live != 0;
    seated += is == worker_state::ready || (is == worker_state::retiring && live != 0);
    must(live == 0 || is == worker_state::ready || is == worker_state::retiring ||
             is == worker_state::doomed,
         "who has tasks has, or had, a place");
  }
  must(core_.present() == present, "it knows how many are there");
  must(core_.serving() == starting + standby + ready, "it knows how many are to stay");
  must(core_.idle() == ready - busy + standby, "it knows how many have nothing to do");
  must(core_.under_way() == under_way, "it knows how many tasks are under way");
  must(core_.pending() == pending_.size(), "it knows how many tasks wait");
  const bool none_may_go = pending_.empty() || core_.next_token_at(now_ns_);
  must(core_.lopsided(now_ns_) == (ready != busy && spare != 0 && none_may_go),
       "it knows whether one idles while another has tasks to spare");
  must(core_.drained() == (!core_.accepts() && under_way == 0 && pending_.empty()),
       "it knows whether all is done");
  must(seated <= std::max({seated_, target_, core_.target()}),
       "no more work at once than there are to be; those above only finish");
  limits_are_watched();
  seated_ = seated;
  target_ = core_.target();
}

/// After each event.
void simulation::limits_are_watched() const {
  for (index w = 0; w < seats_.size(); ++w) {
    const auto& one = seats_[w];
    if (!one || !one->running() || one->broken) continue;
    const auto is = core_.state(w);
    const auto& slot = one->slots[one->head];
    if ((is != worker_state::ready && is != worker_state::retiring) || !slot.held ||
        !slot.task->limits.any())
      continue;
    const auto found = actors::judge(slot.task->limits, slot.started_ns, slot.soft_passed, now_ns_);
    const bool passed = found.what != actors::limit_verdict::action::none;
    must(one->look_at_ns <= (passed ? now_ns_ : found.look_again_ns) &&
             watch_at_ns_ <= one->look_at_ns,
         "whoever has a limit is looked at when it passes");
  }
}

/// Nothing happens any more, and every timer has fired.
void simulation::at_rest() const {
  std::uint32_t stuck = 0;
  for (index w = 0; w < seats_.size(); ++w) {
    const auto& one = seats_[w];
    if (!one) continue;
    const auto is = core_.state(w);
    must(is == worker_state::ready || is == worker_state::standby || is == worker_state::retiring,
         "who started is up, who was to go is gone");
    const bool in_task = one->running() && one->hung;
    stuck += in_task;
    must(is != worker_state::retiring || in_task, "who has retired goes when it has done all");
    must(!one->to_be_replaced || is == worker_state::retiring,
         "all are replaced who were there when that was asked for");
    if (in_task)
      must(one->slots[one->head].task->limits.hard_ns == actors::never_ns,
           "no task runs on beyond its limit");
  }
  if (stuck < core_.target()) {
    must(core_.pending() == 0, "with one worker left that works, no task waits for ever");
    must(core_.under_way() == stuck, "nothing is stuck behind a task that does not end");
  }
  if (core_.accepts())
    must(core_.serving() == core_.target(), "there are as many as there are to be");
}

/// Whoever dies for one task has met no other since. One that also broke the rules is not believed:
/// all that it has not told before is lost.
void simulation::killed_for_one_task(const model_worker& dead, std::size_t taken) const {
  if (!dead.condemned || dead.broken) return;
  must(taken <= (dead.stopped ? 1u : 0u), "a kill ends nothing but what it was meant for");
  for (const auto& slot : dead.slots)
    must(slot.state != model_worker::claim::running && slot.state != model_worker::claim::queued,
         "who is condemned begins nothing more, and has nothing left to begin");
}

void simulation::broken(const char* promise) const {
  throw broken_promise(std::string("not kept: ") + promise + " (seed " + std::to_string(seed_) +
                       ")");
}

}  // namespace carom::test

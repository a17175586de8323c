// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "actors/hungry_line.hpp"
#include "actors/pending_tasks.hpp"
#include "actors/rate_limiter.hpp"
#include "actors/restart_backoff.hpp"
#include "actors/restart_intensity.hpp"
#include "actors/start_pause.hpp"

namespace carom::actors {

/// The rules by which a pool is supervised: a deterministic state machine without clock, I/O or
/// actors. The shell tells it what happened and carries out what it decides. A task is an opaque
/// pointer here; the core holds each one exactly from `submit` until it is given back by
/// `finished`, `stolen` or `take_back`, or by `take_pending` when the pool ends.
class supervisor_core {
 public:
  using task = void*;
  using worker_index = std::uint32_t;

  /// Positions of a worker's ring; a power of two.
  static constexpr std::uint64_t ring = 512;
  /// Most tasks that a worker is ahead by. Less than the ring: revoked slots linger in it.
  static constexpr std::uint32_t widest_window = 256;

  struct options {
    std::uint32_t processes = 1;
    std::uint32_t max_restarts = 100;
    std::int64_t period_ns = 1'000'000'000;
    std::uint64_t max_tasks_per_child = 0;  // 0: no limit
    restart_backoff::rule backoff{};
    std::int64_t start_patience_ns = 10'000'000'000;  // see start_pause
    std::int64_t task_interval_ns = 0;                // rate limit; 0: none
    std::uint32_t task_burst = 1;
    std::uint64_t seed = 1;
  };

  enum class pool_state { running, closing, terminating, failed };

  /// A worker is `starting` until it has run its initializer, then `ready`: it gets tasks. Where
  /// all the places are taken by workers that still finish something it waits as `standby`. A
  /// `retiring` worker gets no more tasks and leaves when it has none; a `doomed` one is being
  /// killed; a `leaving` one has been told to go.
  enum class worker_state { none, starting, standby, ready, retiring, doomed, leaving };

  explicit supervisor_core(const options& o);

  // --- workers -------------------------------------------------------------------------------

  /// The next place that needs a worker; it is `starting` from now on. Nothing if there are enough,
  /// a death is too fresh, more than there are places are being killed before they were ready, or
  /// the pool is ending with no work left.
  std::optional<worker_index> next_start(std::int64_t now_ns = 0);
  /// When a worker that is missing may start; nothing if none is missing.
  std::optional<std::int64_t> next_start_at() const;
  /// The worker has run its initializer.
  void worker_up(worker_index w);

  /// What to do after a death.
  enum class verdict { restart, give_up, none };
  /// The worker is gone; its tasks must have been taken back. An ordered death never counts.
  verdict worker_down(worker_index w, std::int64_t now_ns, bool ordered);
  /// The host had no means for a worker, who is told of as an ordered death beside this: the next
  /// start waits a little. False if nobody has served for so long that nobody will.
  bool starved(std::int64_t now_ns);
  /// How often that has been so since a worker was last ready.
  std::uint32_t failed_starts() const { return pause_.tries(); }

  /// Gives the worker no more tasks; `next_leaver` names it when it has none left.
  void retire(worker_index w);
  /// The worker is being killed: it has no place any more and is replaced at once, see
  /// `next_start`. Its death counts only if it `counts`: the pool did not want it.
  void condemn(worker_index w, bool counts = false);
  /// Who is to be told to leave now: has retired and has nothing to do, or is one too many.
  std::optional<worker_index> next_leaver();
  void leaving(worker_index w);

  std::uint32_t target() const { return target_; }
  /// From now on there are to be so many, at least 1. Those too many finish what they have.
  void set_target(std::uint32_t processes);
  /// Replaces every worker that is there now, one after the other, each when it is done.
  void restart_all();

  worker_state state(worker_index w) const { return workers_[w].state; }
  std::uint32_t live(worker_index w) const { return workers_[w].live; }
  /// Places that there have ever been.
  std::uint32_t worker_count() const { return static_cast<std::uint32_t>(workers_.size()); }
  std::uint32_t present() const { return present_; }
  /// Those that are to stay: starting, standby or ready.
  std::uint32_t serving() const { return serving_; }
  /// Ready with nothing to do, or standing by.
  std::uint32_t idle() const { return idle_ + static_cast<std::uint32_t>(standby_.size()); }
  /// Places that nobody who works would miss: of those who idle, those who start, and those who are
  /// still to be started.
  std::uint32_t dispensable() const {
    const auto starting = serving_ - static_cast<std::uint32_t>(up());
    return idle() + starting + (target_ > serving_ ? target_ - serving_ : 0);
  }

  // --- tasks ---------------------------------------------------------------------------------

  void submit(task t, int priority = 0) { pending_.push_back(t, priority); }
  /// Back to the head of the queue.
  void resubmit(task t, int priority = 0) { pending_.push_front(t, priority); }
  std::size_t pending() const { return pending_.size(); }
  std::size_t under_way() const { return under_way_; }
  /// Tasks that stand behind another one at a worker, which a worker more would take. It would not
  /// where there are more at work than there are places: it would stand by.
  std::uint64_t behind() const { return seated_ <= target_ ? spare_ : 0; }

  struct placement {
    worker_index worker;
    task what;
  };
  /// The next task and the worker to give it to; nothing if no worker should have more. To be
  /// followed by `placed`, `refused` or `drop_front`. The clock matters under a rate limit only.
  std::optional<placement> next_placement(std::int64_t now_ns = 0);
  /// The task stands at `position` of the worker's ring.
  void placed(std::uint64_t position, std::int64_t now_ns = 0);
  /// The worker's ring is full.
  void refused();
  /// What will probably be at the front when `places` more have gone; null if nothing will.
  task ahead(std::size_t places) const { return pending_.ahead(places); }
  /// The task whose turn it is; null if none waits.
  task front() const { return pending_.empty() ? nullptr : pending_.front(); }
  /// It is not to be sent at all; the caller ends it.
  void drop_front() { pending_.pop_front(); }
  /// When the rate limit lets the next task go; nothing if it holds none back.
  std::optional<std::int64_t> next_token_at(std::int64_t now_ns) const;

  /// The worker says that it has finished what stood at `position`: the task, or null if nothing
  /// does.
  task finished(worker_index w, std::uint64_t position);
  /// The task at a position, still under way there; null if there is none.
  task at(worker_index w, std::uint64_t position) const {
    const worker& by = workers_[w];
    return position < by.tail && by.tail - position <= ring ? by.tasks[position % ring] : nullptr;
  }
  /// The worker's tasks take about so long.
  void set_average(worker_index w, std::uint64_t average_ns) {
    workers_[w].average_ns = average_ns;
  }

  /// Takes every task of a dead worker back, in the order of positions.
  struct taken {
    std::uint64_t position;
    task what;
  };
  std::vector<taken> take_back(worker_index w);
  /// One of those had not begun: it does not count against the rate limit.
  void not_begun() { rate_.give_back(); }
  /// Takes the whole queue: the pool ends.
  std::vector<task> take_pending() { return pending_.take_all(); }

  // --- stealing ------------------------------------------------------------------------------

  /// A worker with nothing to do should have what another has not begun.
  struct theft {
    worker_index victim;
    std::uint32_t count;  // revoke so many, from the back
  };
  /// Whom to steal from; nothing if nobody idles, or nobody has tasks to spare. A victim whose
  /// spare tasks take less than they cost to move is left alone unless `stuck`: it has not
  /// finished anything since the last look. The clock matters under a rate limit only.
  /// What is stuck was not as tiny as tasks had been: until the queue is empty, handfuls are not
  /// given any more.
  std::optional<theft> next_theft(bool stuck, std::int64_t now_ns = 0);
  /// The shell has taken back what stood at `position` and was not begun; it is under way no more.
  task stolen(worker_index w, std::uint64_t position);
  /// The shell has ended what runs at `position`, whose worker is to die for it.
  task ended(worker_index w, std::uint64_t position);
  /// The positions of `w` where tasks may stand: [first, tail).
  std::uint64_t first(worker_index w) const {
    return workers_[w].tail > ring ? workers_[w].tail - ring : 0;
  }
  std::uint64_t tail(worker_index w) const { return workers_[w].tail; }
  /// Whether some worker idles while another has tasks that it has not begun, and nothing in the
  /// queue may go to it now.
  bool lopsided(std::int64_t now_ns = 0) const {
    return idle_ != 0 && spare_ != 0 && (pending_.empty() || !rate_.has_token(now_ns));
  }
  /// A worker had begun a task: that resets the count of deaths.
  void accepted() { restarts_.accepted(); }
  /// After `give_up`: how many deaths were one too many.
  std::uint32_t deaths() const { return deaths_; }
  /// Within what time.
  std::int64_t deaths_within_ns() const { return deaths_within_ns_; }
  /// A worker whose ring was full may have room now.
  void try_again(worker_index w) { list_if_hungry(w); }

  // --- the pool ------------------------------------------------------------------------------

  void close();
  void terminate();
  void fail();
  pool_state state() const { return state_; }
  bool accepts() const { return state_ == pool_state::running; }
  bool ending() const { return state_ >= pool_state::terminating; }
  /// Whether the workers should leave: closed and nothing left to do, or ending.
  bool drained() const {
    return state_ != pool_state::running && pending_.empty() && under_way_ == 0;
  }

 private:
  struct worker {
    worker_state state = worker_state::none;
    bool was_ready = false;
    bool counts = false;  // doomed, and its death is no order of the pool's
    bool stale = false;   // to be replaced by `restart_all`
    bool spent = false;   // retiring only because it has had its last task
    std::uint32_t live = 0;
    std::uint64_t given = 0;   // tasks it has been given and not been robbed of
    std::uint64_t budget = 0;  // most of them; 0: no limit
    std::uint64_t tail = 0;    // one past the last position given out
    std::uint64_t average_ns = 0;
    std::array<task, ring> tasks{};
  };

  static bool serves(worker_state s) {
    return s == worker_state::starting || s == worker_state::standby || s == worker_state::ready;
  }
  static bool has_seat(worker_state s) {
    return s == worker_state::ready || s == worker_state::retiring;
  }
  void end_turn();
  std::uint32_t window(const worker& w) const;
  bool hungry(const worker& w) const;
  void list_if_hungry(worker_index w);
  void unlist(worker_index w);
  void change_live(worker& w, std::int32_t by);
  void forget_task(worker& w, std::uint64_t position);
  void set_state(worker_index w, worker_state to);
  void seat_standby();
  void roll_on();
  /// Those that are to stay and have run their initializers.
  std::size_t up() const { return standby_.size() + seated_ - retiring_; }
  std::int64_t start_at_ns() const {
    return std::max(backoff_.start_at_ns(), pause_.start_at_ns());
  }
  std::uint32_t wanted() const { return target_ + (stale_ != 0 ? 1 : 0); }
  /// Whoever must be killed before he is ready may take long to die, or even to be forked: those
  /// who are asked for meanwhile would come to stand in the same line, and be late too.
  bool may_start() const {
    return !ending() && !drained() && serving_ < wanted() && doomed_starts_ <= target_;
  }
  std::uint64_t next_budget();
  std::optional<worker_index> find(worker_state state, bool idle) const;

  options options_;
  pool_state state_ = pool_state::running;
  std::uint32_t target_;
  std::vector<worker> workers_;
  std::uint32_t present_ = 0;  // all but `none`
  std::uint32_t serving_ = 0;  // starting, standby, ready
  std::uint32_t seated_ = 0;   // ready, retiring
  std::uint32_t retiring_ = 0;
  std::uint32_t doomed_starts_ = 0;  // doomed before they were ready
  std::uint32_t stale_ = 0;          // serving workers that are to be replaced
  std::uint32_t idle_ = 0;           // ready, nothing live
  std::uint64_t spare_ = 0;          // live beyond each worker's first
  std::uint64_t under_way_ = 0;      // live in all
  std::uint64_t started_ = 0;
  std::deque<worker_index> standby_;
  pending_tasks<task> pending_;
  hungry_line hungry_;
  bool no_handfuls_ = false;  // tasks have turned out to take longer than they had
  worker_index giving_ = 0;
  std::uint32_t share_ = 0;  // how many more `giving_` gets before it is the next one's turn
  bool gave_up_ = false;
  std::uint32_t deaths_ = 0;
  std::int64_t deaths_within_ns_ = 0;
  bool ever_ready_ = false;           // some worker has been
  std::uint32_t start_failures_ = 0;  // until then
  std::int64_t first_failure_ns_ = 0;
  restart_intensity restarts_;
  restart_intensity start_burst_;
  restart_backoff backoff_;
  start_pause pause_;
  rate_limiter rate_;
};

}  // namespace carom::actors

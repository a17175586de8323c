// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "actors/autoscaler.hpp"
#include "actors/supervisor_core.hpp"
#include "actors/time_limits.hpp"
#include "tests/actors/billiard_restart_state.hpp"
#include "tests/actors/dice.hpp"
#include "tests/actors/model_books.hpp"
#include "tests/actors/model_worker.hpp"
#include "tests/actors/tally.hpp"

namespace carom::test {

/// What supervisor_core promises did not hold.
struct broken_promise : std::runtime_error {
  using runtime_error::runtime_error;
};

/// One schedule of a pool, without a process, a thread or a clock: chance says what happens next,
/// and the shell's part is played as actors/supervisor*.cpp plays it, against workers that act
/// between any two of the host's looks at their pages. Keeps books of its own and compares.
class simulation {
 public:
  explicit simulation(std::uint64_t seed);

  /// Runs the schedule to the pool's end. Throws broken_promise.
  void run();

  const tally& seen() const { return seen_; }

 private:
  using core = actors::supervisor_core;
  using index = core::worker_index;
  using worker_state = core::worker_state;
  enum class event {
    submit,
    act,
    poll,
    dispatch,
    balance,
    retry,
    up,
    die,
    corrupt,
    bury,
    obituary,
    pass,
    look,
    close,
    terminate,
    cannot_fork,
    starve,
    hang,
    stall,
    swell,
    grow,
    shrink,
    restart,
    cancel,
    stop,
    count
  };

  // simulation.cpp: chance
  void roll_profile();
  void happen(event what);
  void submit(std::uint64_t count);
  void act_between();
  model_task* some_task();
  void end_peacefully();
  void let_all_work();

  // simulation_promises.cpp: what must hold
  void given_fairly(const std::vector<index>& who) const;
  void nothing_waits_needlessly() const;
  void compare_books();
  void limits_are_watched() const;
  void at_rest() const;
  void killed_for_one_task(const model_worker& dead, std::size_t taken) const;
  void must(bool holds, const char* promise) const {
    if (!holds) broken(promise);
  }
  [[noreturn]] void broken(const char* promise) const;

  // simulated_shell.cpp: dispatch, results
  void dispatch();
  void place();
  void drop_withdrawn();
  void place_one(const core::placement& next, std::vector<index>& touched);
  bool let_go_of_spare();
  void ask_to_leave(index w);
  void balance();
  void steal(const core::theft& from);
  void take_unbegun_one(index w, std::uint64_t position);
  void balance_timer();
  void retry_timer();
  void poll();
  std::uint64_t drain(index w);
  void enqueue(model_task& task, bool first);
  void end(model_task& task, met how);
  void go_on();
  std::uint32_t window(index w) const;

  // simulated_workers.cpp: workers that come and go, the pool's end
  void fill_seats();
  std::uint32_t late_starts() const;
  void worker_up(index w);
  void corrupt(index w);
  void bury(index w);
  void cannot_fork(index w);
  void starve(index w);
  bool down(index w, bool ordered);
  void publish_obituary();
  bool retry(model_task& task);
  void close();
  void terminate();
  void fail();
  void end_all_tasks();
  void advance_shutdown();

  // simulated_limits.cpp: what the clock brings, and what applications ask
  void due(std::int64_t at_ns) { watch_at_ns_ = std::min(watch_at_ns_, at_ns); }
  void look_by(model_worker& at, std::int64_t at_ns);
  void look_around();
  void look(index w);
  std::int64_t look_at_start(index w);
  std::int64_t look_at_tasks(index w);
  std::int64_t look_at_running(index w, std::uint64_t position, model_task& task);
  bool pass_hard_limit(index w, std::uint64_t position, model_task& task);
  bool stop_running(index w, std::uint64_t position, model_task& task, met how, bool whole);
  void take_unbegun(index w);
  void kill(index w);
  void rule_hung(index w);
  void begin_delayed();
  void set_target(std::uint32_t target);
  void scale();
  void restart_all();
  bool cancel(model_task& task);
  void stop(model_task& task);

  bool ends() const { return core_.state() > core::pool_state::closing; }

  struct obituary {
    struct loss {
      model_task* task;
      std::optional<model_worker::verdict> stopped;
    };
    std::vector<loss> lost;
    bool gives_up = false;
  };

  dice dice_;
  std::uint64_t seed_;
  core::options options_;
  core core_;
  std::vector<std::unique_ptr<model_worker>> seats_;
  std::deque<model_task> tasks_;
  model_queue pending_;  // what core_'s queue must be
  std::vector<obituary> dying_;
  std::multimap<std::int64_t, model_task*> delayed_;  // to be tried again
  billiard_restart_state restarts_;
  billiard_restart_state start_burst_;
  bool ever_up_ = false;
  std::uint32_t start_failures_ = 0;
  model_backoff backoff_;
  model_pause pause_;
  model_rate rate_;
  std::optional<actors::autoscaler> autoscaler_;
  std::optional<model_scaling> scaling_;
  std::int64_t now_ns_ = 1;
  std::int64_t watch_at_ns_ = actors::never_ns;
  std::int64_t scale_at_ns_ = actors::never_ns;
  std::uint64_t withdrawn_ = 0;
  bool balance_armed_ = false;
  bool retry_armed_ = false;
  bool fill_later_ = false;
  bool go_on_later_ = false;
  bool giving_up_ = false;
  bool finished_ = false;
  bool spares_idle_ = false;  // the autoscaler has let one go, and that one idles
  std::uint32_t seated_ = 0;  // at the last look at the books
  std::uint32_t target_ = 0;
  tally seen_;

  std::array<std::uint32_t, static_cast<std::size_t>(event::count)> weights_{};
  std::uint32_t weight_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t largest_burst_ = 1;
  std::uint64_t eagerness_ = 1;   // how much workers do between two looks
  std::uint64_t no_room_ = 0;     // percent of frames whose bytes do not fit
  std::uint64_t chunks_ = 0;      // percent
  std::uint64_t unsendable_ = 0;  // percent
  std::uint64_t hung_ = 0;        // percent of workers whose task does not end
  std::uint64_t limited_ = 0;     // percent of tasks that have time limits
  std::uint64_t slow_ = 0;        // percent of tasks that take time
  std::uint64_t retried_ = 0;     // percent of tasks that may begin more than once
  std::uint64_t pace_ns_ = 1;     // how far the clock goes at most between two events
  int priorities_ = 0;            // each from -this to this
  std::uint64_t average_ns_ = 0;
  std::int64_t claim_deadline_ns_ = actors::never_ns;
  std::int64_t start_timeout_ns_ = actors::never_ns;
};

}  // namespace carom::test

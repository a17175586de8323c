// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "actors/supervisor_core.hpp"
#include "tests/actors/billiard_restart_state.hpp"
#include "tests/actors/dice.hpp"
#include "tests/actors/model_worker.hpp"

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

  struct tally {
    std::uint64_t tasks = 0, finished = 0, lost = 0, ended_with_pool = 0, unsendable = 0;
    std::uint64_t stolen = 0, revoked_too_late = 0, refused = 0, deaths = 0, given_up = 0;
    std::uint64_t run_again = 0;  // by another worker: not begun, or the rest of a chunk
  };
  const tally& seen() const { return seen_; }

 private:
  using core = actors::supervisor_core;
  using index = core::worker_index;
  enum class event {
    submit,
    act,
    poll,
    dispatch,
    balance,
    retry,
    up,
    die,
    bury,
    obituary,
    pass,
    close,
    terminate,
    cannot_fork,
    hang,
    count
  };

  // simulation.cpp: chance, and what must hold
  void roll_profile();
  void happen(event what);
  void submit(std::uint64_t count);
  void act_between();
  void end_peacefully();
  void let_all_work();
  void nothing_waits_needlessly();
  void compare_books() const;
  void must(bool holds, const char* promise) const;

  // simulated_shell.cpp: the shell
  void fill_seats();
  void dispatch();
  void place();
  void balance();
  void steal(const core::theft& from);
  void balance_timer();
  void retry_timer();
  void poll();
  std::uint64_t drain(index w);
  void worker_up(index w);
  void bury(index w);
  void cannot_fork(index w);
  bool down(index w, bool ordered);
  void publish_obituary();
  void close();
  void terminate();
  void fail();
  void end_all_tasks();
  void advance_shutdown();
  void end(model_task& task, std::uint64_t& how);
  std::uint32_t window(index w) const;

  struct obituary {
    std::vector<model_task*> lost;
    bool gives_up;
  };

  dice dice_;
  std::uint64_t seed_;
  core::options options_;
  core core_;
  std::vector<std::unique_ptr<model_worker>> seats_;
  std::deque<model_task> tasks_;
  std::deque<model_task*> pending_;  // what core_'s queue must be
  std::vector<obituary> dying_;
  billiard_restart_state restarts_;
  billiard_restart_state start_burst_;
  std::int64_t now_ns_ = 1;
  bool balance_armed_ = false;
  bool retry_armed_ = false;
  bool finished_ = false;
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
  std::uint64_t average_ns_ = 0;
};

}  // namespace carom::test

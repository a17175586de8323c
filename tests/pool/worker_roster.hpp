// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/pool_options.hpp>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace carom::test {

/// The workers of a pool, as on_process_up and on_process_down tell of them. Outlives its pool.
class worker_roster {
 public:
  /// The options with callbacks into this roster.
  pool_options watch(pool_options options);

  std::set<pid_t> alive() const;
  int ups() const;
  /// Every event of a worker that has gone.
  std::vector<process_event> downs() const;
  bool wait_for_alive(std::size_t count) const;
  bool wait_for_ups(int count) const;
  bool wait_for_downs(std::size_t count) const;

  /// SIGKILLs a random worker; false if there is none. Never hits a process that has got the number
  /// of a worker that is gone.
  bool kill_one();

 private:
  void up(const process_event& event);
  void down(const process_event& event);
  template <class Condition>
  bool wait(Condition condition) const;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::map<pid_t, process_event> alive_;
  int ups_ = 0;
  std::vector<process_event> downs_;
  std::minstd_rand random_{4711};
};

/// Does something again and again, so many times a second, in a thread of its own.
class repeatedly {
 public:
  template <class Action>
  repeatedly(double times_a_second, Action action)
      : thread_([=, this](std::stop_token stop) {
          std::unique_lock lock(mutex_);
          const std::chrono::duration<double> pause(1 / times_a_second);
          while (!wake_.wait_for(lock, stop, pause, [] { return false; }) && !stop.stop_requested())
            count_ += action() ? 1 : 0;
        }) {}
  /// Ends it; how often the action said that it has done something.
  int stop() {
    thread_ = {};
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any wake_;
  int count_ = 0;
  std::jthread thread_;
};

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "actors/restart_backoff.hpp"
#include "tests/actors/model_worker.hpp"

// What the simulation holds the core's rules against: each said again, in another way.
namespace carom::test {

/// A line in which everybody stands in front of all that are less urgent.
class model_queue {
 public:
  void push_back(model_task* task) {
    auto at = line_.end();
    while (at != line_.begin() && (*(at - 1))->priority < task->priority) --at;
    line_.insert(at, task);
  }
  void push_front(model_task* task) {
    auto at = line_.begin();
    while (at != line_.end() && (*at)->priority > task->priority) ++at;
    line_.insert(at, task);
  }
  model_task* front() const { return line_.front(); }
  void pop_front() { line_.pop_front(); }
  bool empty() const { return line_.empty(); }
  std::size_t size() const { return line_.size(); }
  void clear() { line_.clear(); }
  const std::deque<model_task*>& line() const { return line_; }

 private:
  std::deque<model_task*> line_;
};

/// How often a task may be placed: in no span of time, whenever it begins, more often than the
/// burst and one for each interval. What is taken back counts as not placed.
class model_rate {
 public:
  model_rate(std::int64_t interval_ns, std::int64_t burst)
      : interval_ns_(interval_ns), burst_(burst) {}

  /// False if that was one too many.
  bool take(std::int64_t now_ns) {
    begin_span(now_ns);
    ++net_;
    return interval_ns_ == 0 || net_ * interval_ns_ - now_ns <= lowest_ + burst_ * interval_ns_;
  }
  void give_back(std::int64_t now_ns) {
    begin_span(now_ns);
    --net_;
  }

 private:
  /// The span in which there may be least is the one that began where this was lowest.
  void begin_span(std::int64_t now_ns) {
    lowest_ = std::min(lowest_, net_ * interval_ns_ - now_ns);
  }

  std::int64_t interval_ns_;
  std::int64_t burst_;
  std::int64_t net_ = 0;
  std::int64_t lowest_ = INT64_MAX / 2;
};

/// When the next worker may start, as the options say it: chance may only make it earlier.
class model_backoff {
 public:
  explicit model_backoff(const actors::restart_backoff::rule& rule) : rule_(rule) {}

  void died(std::int64_t now_ns) {
    if (rule_.initial_ns == 0) return;
    const bool in_series = series_ != 0 && now_ns - died_ns_ < rule_.reset_after_ns;
    series_ = in_series ? series_ + 1 : 1;
    double delay = static_cast<double>(rule_.initial_ns);
    for (int i = 1; i < series_ && delay < static_cast<double>(rule_.max_ns); ++i)
      delay *= rule_.multiplier;
    delay = std::min(delay, static_cast<double>(rule_.max_ns));
    died_ns_ = now_ns;
    latest_ns_ = now_ns + static_cast<std::int64_t>(delay) + 1;
    earliest_ns_ = now_ns + static_cast<std::int64_t>(delay * (1 - rule_.jitter)) - series_;
  }
  std::int64_t earliest_ns() const { return earliest_ns_; }
  std::int64_t latest_ns() const { return latest_ns_; }

 private:
  actors::restart_backoff::rule rule_;
  int series_ = 0;
  std::int64_t died_ns_ = 0;
  std::int64_t earliest_ns_ = INT64_MIN;
  std::int64_t latest_ns_ = INT64_MIN;
};

}  // namespace carom::test

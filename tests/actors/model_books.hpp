// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "actors/autoscaler.hpp"
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
  /// Whether one more would not be one too many.
  bool may_take(std::int64_t now_ns) const { return model_rate(*this).take(now_ns); }

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

/// How many workers there are to be after a look at the queue.
class model_scaling {
 public:
  explicit model_scaling(const actors::autoscaler::rule& rule) : rule_(rule) {}

  std::uint32_t look(std::uint32_t target, bool waiting, bool behind, bool idle, bool all_started,
                     std::int64_t now_ns) {
    if (!waiting && idle) {
      if (now_ns < spare_at_ns_) spare_at_ns_ = std::min(spare_at_ns_, now_ns + rule_.idle_ns);
    } else {
      spare_at_ns_ = INT64_MAX;
    }
    int by = 0;
    if ((waiting || behind) && !idle && all_started) by = 1;
    if (now_ns >= spare_at_ns_ && target > rule_.min) {
      by = -1;
      spare_at_ns_ = now_ns + rule_.idle_ns;
    }
    const auto wanted = static_cast<std::uint32_t>(static_cast<int>(target) + by);
    return std::min(std::max(wanted, rule_.min), rule_.max);
  }

 private:
  actors::autoscaler::rule rule_;
  std::int64_t spare_at_ns_ = INT64_MAX;  // one goes if somebody idles all the time till then
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

/// While the host has no means for a worker: how long starts wait, and when they are given up.
class model_pause {
 public:
  explicit model_pause(std::int64_t patience_ns) : patience_ns_(patience_ns) {}

  bool failed(std::int64_t now_ns, bool somebody_works, bool somebody_starts) {
    if (nobody_since_ns_ < 0) nobody_since_ns_ = now_ns;
    if (somebody_works) nobody_since_ns_ = -1;
    if (now_ns >= until_ns_) {
      std::int64_t pause = 1'000'000;
      for (int i = 0; i < pauses_ && pause < 1'000'000'000; ++i) pause *= 2;
      until_ns_ = now_ns + std::min<std::int64_t>(pause, 1'000'000'000);
      ++pauses_;
    }
    return somebody_works || somebody_starts || now_ns < nobody_since_ns_ + patience_ns_;
  }
  void succeeded() { *this = model_pause(patience_ns_); }
  std::int64_t until_ns() const { return until_ns_; }

 private:
  std::int64_t patience_ns_;
  std::int64_t nobody_since_ns_ = -1;
  std::int64_t until_ns_ = INT64_MIN;
  int pauses_ = 0;
};

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "actors/supervisor_core.hpp"

namespace carom::test {

/// A core whose rings have room, with tasks that are numbers from 1.
class Core : public testing::Test {
 protected:
  using supervisor_core = actors::supervisor_core;
  using index = supervisor_core::worker_index;
  using verdict = supervisor_core::verdict;
  using worker_state = supervisor_core::worker_state;

  static constexpr std::uint32_t first_window = 4;

  void start(std::uint32_t processes, std::uint32_t max_restarts = 100) {
    start({.processes = processes, .max_restarts = max_restarts, .period_ns = 1'000});
  }
  void start(const supervisor_core::options& o) {
    core_.emplace(o);
    tails_.clear();
    for (index w = 0; w < o.processes; ++w) come(w);
  }
  void come(index w) {
    ASSERT_THAT(core_->next_start(), testing::Optional(w));
    core_->worker_up(w);
    if (w >= tails_.size()) tails_.resize(w + std::size_t{1});
    tails_[w] = 0;
  }
  static supervisor_core::task task(std::uintptr_t number) {
    return reinterpret_cast<supervisor_core::task>(number);
  }
  void submit(std::uintptr_t count) {
    while (count-- != 0) core_->submit(task(++submitted_));
  }
  /// Places all that can be; the worker that got each, in order.
  std::vector<index> place(std::int64_t now = 0) {
    std::vector<index> to;
    while (const auto next = core_->next_placement(now)) {
      to.push_back(next->worker);
      core_->placed(tails_[next->worker]++, now);
    }
    return to;
  }
  /// Takes back what the worker was given last, and queues it again.
  void rob(index w) {
    std::uint64_t last = tails_[w];
    while (!core_->at(w, --last)) {
    }
    core_->resubmit(core_->stolen(w, last));
  }
  /// Tells all to leave who are to; they are gone at once.
  std::vector<index> let_go() {
    std::vector<index> gone;
    while (const auto w = core_->next_leaver()) {
      gone.push_back(*w);
      core_->leaving(*w);
      core_->worker_down(*w, 0, true);
    }
    return gone;
  }
  std::vector<std::uint32_t> live() const {
    std::vector<std::uint32_t> all;
    for (index w = 0; w < core_->worker_count(); ++w) all.push_back(core_->live(w));
    return all;
  }
  void die(index w, std::int64_t now = 0, bool ordered = true) {
    core_->take_back(w);
    core_->worker_down(w, now, ordered);
  }

  std::optional<supervisor_core> core_;
  std::vector<std::uint64_t> tails_;
  std::uintptr_t submitted_ = 0;
};

}  // namespace carom::test

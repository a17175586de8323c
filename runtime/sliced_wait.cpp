// SPDX-License-Identifier: BSL-1.0
#include "runtime/sliced_wait.hpp"

#include <algorithm>
#include <carom/this_task.hpp>

#include "runtime/futex.hpp"
#include "runtime/worker_identity.hpp"

namespace carom::runtime {

bool waits_in_task() noexcept { return running().key.load(std::memory_order_relaxed) != 0; }

std::optional<std::chrono::steady_clock::time_point> deadline_in(
    std::optional<std::chrono::nanoseconds> time) {
  using clock = std::chrono::steady_clock;
  if (!time) return std::nullopt;
  const auto now = clock::now();
  if (*time > clock::time_point::max() - now) return std::nullopt;
  return now + *time;
}

sliced_wait::sliced_wait(std::optional<std::chrono::nanoseconds> time,
                         std::chrono::nanoseconds longest)
    : deadline_(deadline_in(time)), longest_(longest) {}

bool sliced_wait::sleep(const std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  this_task::checkpoint();
  const auto now = clock::now();
  if (deadline_ && now >= *deadline_) return false;
  // The signal of a soft limit ends the sleep, but not if it came between the checkpoint and here.
  if (waits_in_task()) slice_ = shortest;
  const auto end = now + slice_;
  futex_wait_shared(word, expected, deadline_ ? std::min(end, *deadline_) : end);
  slice_ = std::min(2 * slice_, longest_);
  return true;
}

void shared_gate::changed() noexcept {
  if (asleep_.exchange(0, std::memory_order_seq_cst) == 0) return;
  changes_.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all_shared(changes_);
}

}  // namespace carom::runtime

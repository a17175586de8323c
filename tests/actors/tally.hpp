// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace carom::test {

/// What schedules have met.
enum class met : std::size_t {
  tasks,
  // how they ended
  finished,
  lost,
  ended_with_pool,
  unsendable,
  timed_out,
  cancelled,
  stopped,
  // what else happened to them
  stolen,
  revoked_too_late,
  condemned_too_late,
  refused,
  run_again,  // by another worker: not begun, or the rest of a chunk
  retried,    // had begun, and its worker was lost
  soft_passed,
  items_timed_out,
  tombstones,  // cancelled in the queue, dropped when their turn came
  waits_for_token,
  // workers
  deaths,
  corrupt,
  given_up,
  starved,
  starved_to_death,
  hung,
  begun_too_late,  // seemed to hang
  late_starts,
  spent,      // had their last task
  reprieved,  // and were robbed of it
  too_big,
  left,  // were told to go while the pool ran
  stood_by,
  rolled,   // replaced by restart_all
  drained,  // retired while busy, for there were too many
  waits_for_start,
  // the pool
  grown,
  shrunk,
  scaled_up,
  scaled_down,
  restarts,
  count
};

inline constexpr std::array<const char*, static_cast<std::size_t>(met::count)> met_names = {
    "tasks",
    "finished",
    "lost",
    "ended with pool",
    "unsendable",
    "timed out",
    "cancelled",
    "stopped",
    "stolen",
    "revoked too late",
    "condemned too late",
    "refused",
    "run again",
    "retried",
    "soft limits",
    "items timed out",
    "tombstones",
    "token waits",
    "deaths",
    "corrupt",
    "given up",
    "starved",
    "starved to death",
    "hung",
    "begun too late",
    "late starts",
    "spent",
    "reprieved",
    "too big",
    "left",
    "stood by",
    "rolled",
    "drained",
    "start waits",
    "grown",
    "shrunk",
    "scaled up",
    "scaled down",
    "restarts"};

class tally {
 public:
  std::uint64_t& operator[](met what) { return counts_[static_cast<std::size_t>(what)]; }
  std::uint64_t operator[](met what) const { return counts_[static_cast<std::size_t>(what)]; }
  tally& operator+=(const tally& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    return *this;
  }
  /// Tasks that have ended.
  std::uint64_t ended() const {
    std::uint64_t sum = 0;
    for (const met how : {met::finished, met::lost, met::ended_with_pool, met::unsendable,
                          met::timed_out, met::cancelled, met::stopped})
      sum += (*this)[how];
    return sum;
  }

 private:
  std::array<std::uint64_t, static_cast<std::size_t>(met::count)> counts_{};
};

}  // namespace carom::test

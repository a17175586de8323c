// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "actors/time_limits.hpp"
#include "tests/actors/tally.hpp"

namespace carom::test {

/// A task as the simulation sees it: opaque to the core, which must not lose or double it.
struct model_task {
  enum class place { queue, worker, delayed, nowhere, withdrawn };

  bool chunk = false;    // runs on elsewhere when its worker dies
  bool sendable = true;  // otherwise the shell cannot describe it
  bool heeds = false;    // ends when its soft limit has passed
  int priority = 0;
  int retries = 0;  // how often it may begin again when its worker was lost
  std::int64_t retry_after_ns = 0;
  std::int64_t takes_ns = 0;
  actors::time_limits limits{};
  int endings = 0;  // has to become 1
  place where = place::queue;
  std::uint32_t worker = 0;
  std::uint64_t position = 0;
};

/// One worker generation and the page it shares with the host, an act at a time. The rules are
/// those of task_ring.hpp and result_ring.hpp: positions, claims, a head that moves before the
/// result is shown. Positions are kept for ever, so nothing is mistaken for something else.
class model_worker {
 public:
  static constexpr std::uint64_t ring = 512;

  enum class claim { queued, running, done, revoked, condemned };
  struct slot {
    model_task* task;
    claim state = claim::queued;
    bool held = true;          // under way, as far as the host knows
    bool soft_passed = false;  // has been told to end softly
    std::int64_t placed_ns = 0;
    std::int64_t started_ns = 0;
    bool over(std::int64_t now_ns) const {
      return now_ns - started_ns >= task->takes_ns || (soft_passed && task->heeds);
    }
  };

  // --- what the worker does ------------------------------------------------------------------

  /// The next thing it would do: claim, finish and leave, show the result, go. False if it sleeps.
  bool act(std::int64_t now_ns) {
    if (dead || !ready_sent) return false;
    if (unshown_) {
      results.push_back(*unshown_);
      unshown_.reset();
      return true;
    }
    if (running_) return !hung && slots[head].over(now_ns) && finish(now_ns);
    if (!wants_out && !stalled) {
      while (head < published && slots[head].state == claim::revoked) ++head;
      if (head != published) {
        slots[head].state = claim::running;
        slots[head].started_ns = now_ns;
        running_ = true;
        return true;
      }
    }
    if (!told_to_leave || stalled) return false;
    dead = true;
    return true;
  }
  bool running() const { return running_; }

  bool dead = false;
  bool hung = false;       // the running task does not end
  bool stalled = false;    // begins nothing
  bool too_big = false;    // will find so at the end of the task
  bool wants_out = false;  // and claims nothing any more
  bool ready_sent = false;
  std::uint64_t head = 0;
  std::int64_t finished_ns = 0;  // the last time

  // --- what the host does --------------------------------------------------------------------

  std::optional<std::uint64_t> write(model_task* task, std::int64_t now_ns) {
    if (slots.size() - seen_head >= ring - 1) return std::nullopt;
    slots.push_back({.task = task, .placed_ns = now_ns});
    ++live;
    ++given;
    return slots.size() - 1;
  }
  void publish() { published = slots.size(); }
  void refresh() { seen_head = head; }
  bool revoke(std::uint64_t position) {
    if (slots[position].state != claim::queued) return false;
    slots[position].state = claim::revoked;
    --given;
    return true;
  }
  bool condemn(std::uint64_t position) {
    if (slots[position].state != claim::running) return false;
    slots[position].state = claim::condemned;
    condemned = true;
    return true;
  }
  /// The host has heard that it is over, or has taken it back.
  void let_go(std::uint64_t position) {
    slots[position].held = false;
    --live;
  }

  std::vector<slot> slots;
  std::vector<std::uint64_t> results;
  std::uint64_t published = 0;
  std::uint64_t seen_head = 0;
  std::uint32_t live = 0;
  std::uint64_t given = 0;  // and not taken back
  std::uint64_t average_ns = 0;

  // --- what the host knows of it -------------------------------------------------------------

  bool up = false;             // has run its initializer
  bool ordered = false;        // its death was
  bool counts = false;         // it is killed, and that counts as a death
  bool killed = false;         // a signal is on its way
  bool condemned = false;      // for one task, which must be the last that it met
  bool broken = false;         // it wrote what cannot be: nothing it says is heard any more
  bool full = false;           // it idles, but its ring has had no room
  bool told_to_leave = false;  // its ring is empty and stays so
  bool to_be_replaced = false;
  struct verdict {
    std::uint64_t position;
    met how;
    bool whole;
  };
  std::optional<verdict> stopped;  // a chunk
  std::int64_t born_ns = 0;
  std::int64_t look_at_ns = actors::never_ns;
  std::uint64_t soft_key = UINT64_MAX;
  std::uint64_t stood_at = UINT64_MAX;
  std::int64_t stood_since_ns = 0;

 private:
  bool finish(std::int64_t now_ns) {
    if (slots[head].state == claim::condemned) return false;  // for ever
    slots[head].state = claim::done;
    finished_ns = now_ns;
    wants_out |= too_big;
    unshown_ = head++;
    running_ = false;
    return true;
  }

  bool running_ = false;
  std::optional<std::uint64_t> unshown_;
};

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace carom::test {

/// A task as the simulation sees it: opaque to the core, which must not lose or double it.
struct model_task {
  bool chunk = false;    // runs on elsewhere when its worker dies
  bool sendable = true;  // otherwise the shell cannot describe it
  int endings = 0;       // has to become 1
};

/// One worker generation and the page it shares with the host, an act at a time. The rules are
/// those of task_ring.hpp and result_ring.hpp: positions, claims, a head that moves before the
/// result is shown. Positions are kept for ever, so nothing is mistaken for something else.
class model_worker {
 public:
  static constexpr std::uint64_t ring = 512;

  enum class claim { queued, running, done, revoked };
  struct slot {
    model_task* task;
    claim state = claim::queued;
    bool held = true;  // under way, as far as the host knows
  };

  // --- what the worker does ------------------------------------------------------------------

  /// The next thing it would do: claim, finish and leave, show the result. False if it sleeps.
  bool act() {
    if (dead || !running_started()) return false;
    if (unshown_) {
      results.push_back(*unshown_);
      unshown_.reset();
      return true;
    }
    if (running_) {
      if (hung) return false;
      slots[head].state = claim::done;
      unshown_ = head++;
      running_ = false;
      return true;
    }
    while (head < published && slots[head].state == claim::revoked) ++head;
    if (head == published) return false;
    slots[head].state = claim::running;
    running_ = true;
    return true;
  }
  bool running() const { return running_; }

  bool dead = false;
  bool hung = false;  // the running task does not end
  bool up = false;
  bool ready_sent = false;
  std::uint64_t head = 0;

  // --- what the host does --------------------------------------------------------------------

  std::optional<std::uint64_t> write(model_task* task) {
    if (slots.size() - seen_head >= ring - 1) return std::nullopt;
    slots.push_back({task});
    ++live;
    return slots.size() - 1;
  }
  void publish() { published = slots.size(); }
  void refresh() { seen_head = head; }
  bool revoke(std::uint64_t position) {
    if (slots[position].state != claim::queued) return false;
    slots[position].state = claim::revoked;
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
  std::uint64_t average_ns = 0;
  bool ordered = false;

 private:
  bool running_started() const { return ready_sent; }

  bool running_ = false;
  std::optional<std::uint64_t> unshown_;
};

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "actors/queue_core.hpp"

namespace carom::test {

using actors::queue_core;

struct model_item {
  std::uint64_t number;
  std::uint32_t producer;
  int taken = 0;
  std::uint64_t order = 0;  // in which the host has seen it
};

/// A client as its page shows it: what is in its rings, and how far the host knows.
struct model_client {
  struct slot {
    std::uint64_t position;
    model_item* item;
    enum { queued, taken, revoked } state = queued;
  };
  std::uint32_t name = 0;
  bool alive = false;
  bool stopped = false;
  std::deque<slot> ring;
  std::uint64_t tail = 0;
  std::uint64_t left_before = 0;
  std::uint32_t waits = 0, beat = 0, seen_waits = 0, seen_beat = 0;
  std::uint32_t room_waits = 0, room_beat = 0, seen_room_waits = 0, seen_room_beat = 0;
  std::uint64_t room = 0;          // unused
  std::deque<model_item*> unseen;  // put, not taken in by the host
  std::vector<model_item*> got;
  std::size_t capacity = 8;
  bool refused = false;

  slot* first_queued() {
    for (slot& one : ring)
      if (one.state == slot::queued) return &one;
    return nullptr;
  }
  /// Leaves what is behind it, as a client does that takes or looks.
  void leave() {
    while (!ring.empty() && ring.front().state != slot::queued) {
      left_before = ring.front().position + 1;
      ring.pop_front();
    }
  }
};

/// One schedule, by its seed, of clients that put, take, wait, give up, stop and die at any moment;
/// no process, no clock. What breaks a promise fails the test.
class queue_simulation {
 public:
  queue_simulation(std::uint64_t seed, std::uint64_t maxsize, bool harm)
      : dice_(seed), maxsize_(maxsize), harm_(harm), core_({.maxsize = maxsize, .grace_ns = 250}) {}

  void run(int steps);

 private:
  std::uint64_t below(std::uint64_t n) { return dice_() % n; }
  bool chance(int percent) { return below(100) < static_cast<std::uint64_t>(percent); }

  // The schedule, and what clients do; queue_simulation.cpp.
  void connect();
  model_client* any(queue_core::client& who);
  void step();
  void connect_more();
  void act(model_client& c);
  void take(model_client& c);
  /// Whoever takes, dies or stops: items go in the order in which they came.
  void order(const model_item& item);
  void die(queue_core::client who);
  /// In the end one client takes all that is left: nothing was lost.
  void drain();
  std::uint64_t size_now() const;
  std::size_t count_taken() const;

  // The shell around the core, and what it promises; simulated_queue_host.cpp.
  void host_sees(queue_core::client from);
  void look(queue_core::client who);
  void took(queue_core::client who, std::uint64_t before);
  void look_at_all();
  /// A request of one who does not wait.
  void ask_now(queue_core::client who);
  void host_turn();
  void serve();
  void recall(queue_core::client who, std::uint64_t keep);
  /// Who waits gets what is there, unless somebody else is about to take what is older.
  void nobody_waits_for_what_is_there();

  std::mt19937_64 dice_;
  std::uint64_t maxsize_;
  bool harm_;
  bool draining_ = false;
  bool urges_ = false;
  queue_core core_;
  std::int64_t now_ = 0;
  std::uint32_t names_ = 0;
  std::vector<std::unique_ptr<model_client>> clients_;
  std::vector<std::unique_ptr<model_item>> items_;
  std::map<std::uint32_t, std::uint64_t> made_;
  std::map<std::uint32_t, std::uint64_t> seen_;
  std::set<std::uint32_t> was_late_;  // at some time
  std::set<std::uint32_t> promised_;  // something, at some time
  std::uint64_t orders_ = 0, last_taken_ = 0;
  std::set<const model_item*> known_taken_;
};

}  // namespace carom::test

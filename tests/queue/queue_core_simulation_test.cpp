// SPDX-License-Identifier: BSL-1.0
// The rules of a queue under seeded random schedules: clients that put, take, wait, give up, stop
// and die at any moment; no process, no clock.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "actors/queue_core.hpp"

namespace {

using carom::actors::queue_core;

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

class simulation {
 public:
  simulation(std::uint64_t seed, std::uint64_t maxsize, bool harm)
      : dice_(seed), maxsize_(maxsize), harm_(harm), core_({.maxsize = maxsize, .grace_ns = 250}) {}

  void run(int steps) {
    for (int i = 0; i < 4; ++i) connect();
    for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) step();
    drain();
  }

 private:
  std::uint64_t below(std::uint64_t n) { return dice_() % n; }
  bool chance(int percent) { return below(100) < static_cast<std::uint64_t>(percent); }

  void connect() {
    const auto who = core_.connect();
    if (clients_.size() <= who) clients_.resize(who + std::size_t{1});
    clients_[who] = std::make_unique<model_client>();
    clients_[who]->alive = true;
    clients_[who]->name = names_++;
    clients_[who]->capacity = 1 + below(12);
    if (maxsize_ == 0) clients_[who]->room = UINT64_MAX / 2;
  }

  model_client* any(queue_core::client& who) {
    if (clients_.empty()) return nullptr;
    who = static_cast<queue_core::client>(below(clients_.size()));
    model_client* c = clients_[who].get();
    return c && c->alive ? c : nullptr;
  }

  void step() {
    queue_core::client who = 0;
    model_client* c = any(who);
    if (!c) {
      if (chance(20)) connect();
      return;
    }
    if (c->stopped && chance(95)) {
      // It does nothing; time passes for it.
    } else {
      c->stopped = false;
      act(*c);
    }
    if (harm_ && chance(2)) c->stopped = true;
    if (harm_ && chance(1)) return die(who);
    now_ += static_cast<std::int64_t>(below(30));
    if (chance(60)) host_turn();
    if (chance(5)) connect_more();
    if (chance(10)) {
      look_at_all();
      for (queue_core::client k = 0; k < clients_.size(); ++k)
        if (clients_[k]) {
          if (core_.out(k) != 0) was_late_.insert(clients_[k]->name);
          clients_[k]->refused = false;
          core_.has_space(k);
        }
      core_.expire(now_);
      serve();
    }
  }

  void connect_more() {
    std::size_t alive = 0;
    for (const auto& c : clients_) alive += c != nullptr;
    if (alive < 6) connect();
  }

  void act(model_client& c) {
    switch (below(6)) {
      case 0:
      case 1:  // put, or wait for room
        if (c.room != 0) {
          items_.push_back(std::make_unique<model_item>(model_item{made_[c.name]++, c.name}));
          c.unseen.push_back(items_.back().get());
          --c.room;
          if (c.room_waits != 0) --c.room_waits;
        } else if (c.room_waits < 3) {
          ++c.room_waits;
          ++c.room_beat;
        } else {
          ++c.room_beat;
        }
        break;
      case 2: take(c); break;
      case 3:
        take(c);
        if (!c.first_queued() && c.waits < 3) {
          ++c.waits;
          ++c.beat;
        }
        break;
      case 4:
        ++c.beat;
        ++c.room_beat;
        c.leave();
        break;
      case 5:  // time-outs, and who does not wait
        urges_ = true;
        if (c.waits != 0 && chance(30)) --c.waits;
        if (c.room_waits != 0 && chance(30)) --c.room_waits;
        break;
    }
    EXPECT_LE(size_now(), maxsize_ == 0 ? UINT64_MAX : maxsize_);
  }

  void take(model_client& c) {
    model_client::slot* first = c.first_queued();
    if (!first) return c.leave();
    first->state = model_client::slot::taken;
    EXPECT_EQ(first->item->taken++, 0) << "an item is taken once";
    c.got.push_back(first->item);
    order(*first->item);
    if (c.waits != 0) --c.waits;
    if (chance(70)) c.leave();
  }

  /// Whoever takes, dies or stops: items go in the order in which they came.
  void order(const model_item& item) {
    EXPECT_LT(last_taken_, item.order) << "first in, first out";
    last_taken_ = item.order;
  }
  void host_sees(queue_core::client from) {
    for (auto& unseen = clients_[from]->unseen; !unseen.empty(); unseen.pop_front()) {
      model_item& item = *unseen.front();
      item.order = ++orders_;
      auto& last = seen_[item.producer];
      EXPECT_LE(last, item.number) << "each producer's items in their order";
      last = item.number;
      core_.put(from, &item);
    }
  }

  std::uint64_t size_now() const {
    std::uint64_t taken_unseen = 0, put_unseen = 0;
    for (const auto& c : clients_) {
      if (!c) continue;
      put_unseen += c->unseen.size();
      for (const auto& item : c->got) taken_unseen += known_taken_.count(item) == 0;
    }
    return core_.size() + put_unseen - taken_unseen;
  }

  void look(queue_core::client who) {
    model_client& c = *clients_[who];
    const auto waits = c.waits, beat = c.beat, room_waits = c.room_waits, room_beat = c.room_beat;
    host_sees(who);
    std::uint64_t before = c.left_before;
    for (const auto& one : c.ring) {
      if (one.state != model_client::slot::taken) break;
      before = one.position + 1;
    }
    took(who, before);
    if (waits != c.seen_waits || beat != c.seen_beat) {
      c.refused = false;
      core_.has_space(who);
      core_.wants_items(who, waits, beat != c.seen_beat, now_);
    }
    if (room_waits != c.seen_room_waits || room_beat != c.seen_room_beat)
      core_.wants_room(who, room_waits, room_beat != c.seen_room_beat, now_);
    c.seen_waits = waits;
    c.seen_beat = beat;
    c.seen_room_waits = room_waits;
    c.seen_room_beat = room_beat;
  }

  void took(queue_core::client who, std::uint64_t before) {
    while (void* item = core_.took(who, before, now_)) {
      EXPECT_EQ(static_cast<model_item*>(item)->taken, 1) << "what is given up has been taken";
      known_taken_.insert(static_cast<model_item*>(item));
    }
  }

  void look_at_all() {
    for (queue_core::client k = 0; k < clients_.size(); ++k)
      if (clients_[k]) look(k);
  }

  /// A request of one who does not wait.
  void ask_now(queue_core::client who) {
    look_at_all();
    model_client& c = *clients_[who];
    promised_.insert(c.name);
    const bool items = chance(50);
    if (items) {
      core_.wants_items(who, c.seen_waits + 1, true, now_);
      core_.urge(who);
    } else if (maxsize_ != 0) {
      core_.wants_room(who, c.seen_room_waits + 1, true, now_);
      core_.urge_room(who);
    }
    serve();
    core_.urge(std::nullopt);
    core_.urge_room(std::nullopt);
    if (items && !c.refused) {
      EXPECT_TRUE(core_.any_out(who) || core_.size() == 0) << "what is there is to be had";
    } else if (!items && maxsize_ != 0) {
      EXPECT_TRUE(core_.has_room(who) || core_.size() >= maxsize_) << "room is to be had";
    }
    if (items) core_.promise(who);
    if (!items && maxsize_ != 0) core_.promise_room(who);
    core_.wants_items(who, c.seen_waits, false, now_);
    core_.wants_room(who, c.seen_room_waits, false, now_);
    const std::uint64_t out = core_.out(who), room = c.room;
    serve();
    EXPECT_TRUE(!items || core_.out(who) + c.got.size() != 0 || out == 0) << "it stays so";
    EXPECT_TRUE(items || maxsize_ == 0 || c.room != 0 || room == 0 || !c.unseen.empty());
  }

  void host_turn() {
    if (std::exchange(urges_, false)) {
      queue_core::client who = 0;
      if (any(who)) return ask_now(who);
    }
    if (chance(50)) {
      look_at_all();
    } else {
      queue_core::client who = 0;
      if (any(who)) look(who);
    }
    serve();
  }

  void serve() {
    for (int commands = 0;; ++commands) {
      ASSERT_LT(commands, 100'000) << "it comes to an end";
      const auto command = core_.next(now_);
      if (command.what_to_do == queue_core::act::nothing) break;
      model_client& c = *clients_[command.who];
      // Clients act while the host does.
      if (!draining_ && chance(10) && !c.stopped) act(c);
      switch (command.what_to_do) {
        case queue_core::act::deliver:
          if (c.ring.size() >= c.capacity) {
            core_.refused(command.who);
            c.refused = true;
          } else {
            c.ring.push_back({c.tail, static_cast<model_item*>(command.what)});
            core_.delivered(command.who, c.tail++, now_);
          }
          break;
        case queue_core::act::recall: recall(command.who, command.count); break;
        case queue_core::act::grant: c.room += command.count; break;
        case queue_core::act::withdraw:
          c.room = std::min(c.room, command.count);
          host_sees(command.who);
          core_.withdrawn(command.who, c.room);
          break;
        case queue_core::act::nothing: break;
      }
    }
    nobody_waits_for_what_is_there();
  }

  void recall(queue_core::client who, std::uint64_t keep) {
    model_client& c = *clients_[who];
    for (std::uint64_t left = core_.out(who); left > keep; --left) {
      const std::uint64_t position = core_.last_out(who);
      if (chance(10) && c.alive && !c.stopped) take(c);
      auto found = std::find_if(c.ring.begin(), c.ring.end(),
                                [&](const auto& s) { return s.position == position; });
      if (found == c.ring.end() || found->state == model_client::slot::taken)
        return took(who, position + 1);
      ASSERT_EQ(found->state, model_client::slot::queued);
      found->state = model_client::slot::revoked;
      core_.recalled(who);
    }
  }

  /// Who waits gets what is there, unless somebody else is about to take what is older.
  void nobody_waits_for_what_is_there() {
    bool somebody = false, owed = false;
    std::uint64_t out = 0;
    for (queue_core::client k = 0; k < clients_.size(); ++k) {
      if (!clients_[k]) continue;
      const model_client& c = *clients_[k];
      out += core_.out(k);
      owed |= core_.out(k) != 0 && (c.seen_waits != 0 || promised_.contains(c.name));
      somebody |= core_.out(k) < c.seen_waits && !c.refused && !was_late_.contains(c.name);
    }
    if (somebody && !owed) {
      EXPECT_EQ(core_.size(), 0u) << "nobody waits for what is there";
    }
  }

  void die(queue_core::client who) {
    model_client& c = *clients_[who];
    c.alive = false;
    look(who);
    recall(who, 0);
    core_.disconnect(who);
    clients_[who].reset();
    serve();
  }

  /// In the end one client takes all that is left: nothing was lost.
  void drain() {
    draining_ = true;
    look_at_all();
    for (queue_core::client k = 0; k < clients_.size(); ++k)
      if (clients_[k]) {
        look(k);
        recall(k, 0);
        core_.disconnect(k);
        clients_[k].reset();
      }
    EXPECT_EQ(core_.size(), items_.size() - count_taken());
    const auto who = core_.connect();
    if (clients_.size() <= who) clients_.resize(who + std::size_t{1});
    clients_[who] = std::make_unique<model_client>();
    model_client& last = *clients_[who];
    last.alive = true;
    last.name = names_++;
    last.capacity = 600;
    for (std::size_t rounds = 0; core_.size() != 0 && rounds <= 2 * items_.size() + 2; ++rounds) {
      if (!last.first_queued() && last.waits == 0) {
        ++last.waits;
        ++last.beat;
      }
      look(who);
      serve();
      while (last.first_queued()) take(last);
      last.leave();
    }
    look(who);
    EXPECT_EQ(core_.size(), 0u);
    for (const auto& item : items_) EXPECT_EQ(item->taken, 1) << "every item is taken once";
    EXPECT_EQ(core_.unfinished(), items_.size());
    for (std::size_t i = 0; i < items_.size(); ++i) EXPECT_TRUE(core_.done());
    EXPECT_FALSE(core_.done()) << "no item's work is done twice";
  }

  std::size_t count_taken() const {
    std::size_t count = 0;
    for (const auto& item : items_) count += item->taken != 0;
    return count;
  }

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

std::uint64_t seeds(std::uint64_t few, std::uint64_t many) {
  return std::getenv("CAROM_FULL") ? many : few;
}

TEST(QueueCore, whatever_clients_do_nothing_is_lost_doubled_or_too_much) {
  for (std::uint64_t seed = 1; seed <= seeds(1'000, 50'000); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    constexpr std::uint64_t sizes[] = {0, 1, 2, 5, 40};
    simulation(seed, sizes[seed % 5], true).run(400);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(QueueCore, without_harm_the_same) {
  for (std::uint64_t seed = 1; seed <= seeds(1'000, 50'000); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    constexpr std::uint64_t sizes[] = {0, 1, 2, 5, 40};
    simulation(seed, sizes[seed % 5], false).run(400);
    if (testing::Test::HasFailure()) return;
  }
}

/// A core, and what a shell would do at once.
struct small_queue {
  queue_core core;
  std::map<queue_core::client, std::deque<int*>> given;
  std::map<queue_core::client, std::uint64_t> positions, room;
  std::int64_t now = 1;

  explicit small_queue(const queue_core::options& options = {}) : core(options) {}

  void serve() {
    for (;;) {
      const auto command = core.next(now);
      switch (command.what_to_do) {
        case queue_core::act::nothing: return;
        case queue_core::act::deliver:
          given[command.who].push_back(static_cast<int*>(command.what));
          core.delivered(command.who, positions[command.who]++, now);
          break;
        case queue_core::act::recall:
          while (core.out(command.who) > command.count) {
            given[command.who].pop_back();
            core.recalled(command.who);
          }
          break;
        case queue_core::act::grant: room[command.who] += command.count; break;
        case queue_core::act::withdraw:
          room[command.who] = std::min(room[command.who], command.count);
          core.withdrawn(command.who, room[command.who]);
          break;
      }
    }
  }
  void wait(queue_core::client who, std::uint32_t threads) {
    core.wants_items(who, threads, true, now);
    serve();
  }
  std::optional<int> take(queue_core::client who) {
    if (given[who].empty()) return std::nullopt;
    const int value = *given[who].front();
    given[who].pop_front();
    core.took(who, positions[who] - given[who].size(), now);
    core.wants_items(who, 0, false, now);
    serve();
    return value;
  }
};

TEST(QueueCore, what_lies_ahead_with_one_goes_to_the_other_who_waits) {
  std::vector<int> items{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  small_queue q;
  const auto a = q.core.connect(), b = q.core.connect();
  for (int& item : items) q.core.put(a, &item);
  for (int i = 0; i < 4; ++i) {
    q.wait(a, 1);
    EXPECT_EQ(q.take(a), i);
  }
  EXPECT_GT(q.core.out(a), 0u) << "it is trusted with more than it asks for";
  EXPECT_EQ(q.core.size(), 6u) << "which is still in the queue";
  q.wait(b, 1);
  EXPECT_EQ(q.take(b), 4) << "and the other gets the oldest of it";
  EXPECT_EQ(q.core.out(a), 0u);
}

TEST(QueueCore, an_item_of_one_who_died_goes_first) {
  std::vector<int> items{0, 1, 2};
  small_queue q;
  const auto a = q.core.connect(), b = q.core.connect();
  for (int& item : items) q.core.put(b, &item);
  q.wait(a, 1);
  ASSERT_EQ(q.core.out(a), 1u);
  q.core.disconnect(a);
  q.wait(b, 1);
  EXPECT_EQ(q.take(b), 0);
}

TEST(QueueCore, who_is_stopped_loses_its_turn_after_a_while) {
  std::vector<int> items{7};
  small_queue q({.grace_ns = 250});
  const auto a = q.core.connect(), b = q.core.connect();
  q.wait(a, 1);
  q.wait(b, 1);
  EXPECT_FALSE(q.core.needs_timer()) << "an idle queue wakes nobody";
  q.core.put(b, &items[0]);
  q.serve();
  ASSERT_EQ(q.core.out(a), 1u) << "who waits longest is first";
  EXPECT_TRUE(q.core.needs_timer());
  q.now += 249;
  q.core.expire(q.now);
  q.serve();
  EXPECT_EQ(q.core.out(b), 0u);
  q.now += 1;
  q.core.expire(q.now);
  q.serve();
  EXPECT_EQ(q.take(b), 7);
  EXPECT_FALSE(q.core.needs_timer());
  // Once it goes on it is served again.
  q.core.put(b, &items[0]);
  q.serve();
  EXPECT_EQ(q.core.out(a), 0u);
  q.wait(a, 1);
  EXPECT_EQ(q.core.out(a), 1u);
}

TEST(QueueCore, room_that_one_does_not_use_is_anothers) {
  std::vector<int> items(8);
  small_queue q({.maxsize = 4});
  const auto a = q.core.connect(), b = q.core.connect();
  for (int i = 0; i < 3; ++i) {
    q.core.wants_room(a, 1, true, q.now);
    q.serve();
    ASSERT_GT(q.room[a], 0u);
    --q.room[a];
    q.core.put(a, &items[0]);
    q.core.wants_room(a, 0, false, q.now);
    q.serve();
  }
  EXPECT_EQ(q.core.size() + q.room[a], 4u);
  q.core.wants_room(b, 1, true, q.now);
  q.serve();
  EXPECT_EQ(q.room[b], 1u);
  EXPECT_EQ(q.room[a], 0u);
  q.core.wants_room(a, 1, true, q.now);
  q.serve();
  EXPECT_EQ(q.room[a], 0u) << "never more than maxsize";
}

}  // namespace

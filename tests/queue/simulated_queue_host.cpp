// SPDX-License-Identifier: BSL-1.0
// What the host of a queue does around its core, and looks for after each step.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "tests/queue/queue_simulation.hpp"

namespace carom::test {

void queue_simulation::host_sees(queue_core::client from) {
  for (auto& unseen = clients_[from]->unseen; !unseen.empty(); unseen.pop_front()) {
    model_item& item = *unseen.front();
    item.order = ++orders_;
    auto& last = seen_[item.producer];
    EXPECT_LE(last, item.number) << "each producer's items in their order";
    last = item.number;
    core_.put(from, &item);
  }
}

void queue_simulation::look(queue_core::client who) {
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

void queue_simulation::took(queue_core::client who, std::uint64_t before) {
  while (void* item = core_.took(who, before, now_)) {
    EXPECT_EQ(static_cast<model_item*>(item)->taken, 1) << "what is given up has been taken";
    known_taken_.insert(static_cast<model_item*>(item));
  }
}

void queue_simulation::look_at_all() {
  for (queue_core::client k = 0; k < clients_.size(); ++k)
    if (clients_[k]) look(k);
}

void queue_simulation::ask_now(queue_core::client who) {
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

void queue_simulation::host_turn() {
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

void queue_simulation::serve() {
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

void queue_simulation::recall(queue_core::client who, std::uint64_t keep) {
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

void queue_simulation::nobody_waits_for_what_is_there() {
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

}  // namespace carom::test

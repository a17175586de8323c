// SPDX-License-Identifier: BSL-1.0
#include "tests/queue/queue_simulation.hpp"

#include <gtest/gtest.h>

#include <utility>

namespace carom::test {

void queue_simulation::run(int steps) {
  for (int i = 0; i < 4; ++i) connect();
  for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) step();
  drain();
}

void queue_simulation::connect() {
  const auto who = core_.connect();
  if (clients_.size() <= who) clients_.resize(who + std::size_t{1});
  clients_[who] = std::make_unique<model_client>();
  clients_[who]->alive = true;
  clients_[who]->name = names_++;
  clients_[who]->capacity = 1 + below(12);
  if (maxsize_ == 0) clients_[who]->room = UINT64_MAX / 2;
}

model_client* queue_simulation::any(queue_core::client& who) {
  if (clients_.empty()) return nullptr;
  who = static_cast<queue_core::client>(below(clients_.size()));
  model_client* c = clients_[who].get();
  return c && c->alive ? c : nullptr;
}

void queue_simulation::step() {
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

void queue_simulation::connect_more() {
  std::size_t alive = 0;
  for (const auto& c : clients_) alive += c != nullptr;
  if (alive < 6) connect();
}

void queue_simulation::act(model_client& c) {
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

void queue_simulation::take(model_client& c) {
  model_client::slot* first = c.first_queued();
  if (!first) return c.leave();
  first->state = model_client::slot::taken;
  EXPECT_EQ(first->item->taken++, 0) << "an item is taken once";
  c.got.push_back(first->item);
  order(*first->item);
  if (c.waits != 0) --c.waits;
  if (chance(70)) c.leave();
}

void queue_simulation::order(const model_item& item) {
  EXPECT_LT(last_taken_, item.order) << "first in, first out";
  last_taken_ = item.order;
}

void queue_simulation::die(queue_core::client who) {
  model_client& c = *clients_[who];
  c.alive = false;
  look(who);
  recall(who, 0);
  core_.disconnect(who);
  clients_[who].reset();
  serve();
}

void queue_simulation::drain() {
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

std::uint64_t queue_simulation::size_now() const {
  std::uint64_t taken_unseen = 0, put_unseen = 0;
  for (const auto& c : clients_) {
    if (!c) continue;
    put_unseen += c->unseen.size();
    for (const auto& item : c->got) taken_unseen += known_taken_.count(item) == 0;
  }
  return core_.size() + put_unseen - taken_unseen;
}

std::size_t queue_simulation::count_taken() const {
  std::size_t count = 0;
  for (const auto& item : items_) count += item->taken != 0;
  return count;
}

}  // namespace carom::test

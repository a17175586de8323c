// SPDX-License-Identifier: BSL-1.0
#include "actors/queue_server.hpp"

#include <algorithm>
#include <carom/log.hpp>
#include <utility>

#include "runtime/clock.hpp"

// The queue on its loop: what clients do and want, what the core decides. Clients that come and go,
// and callers on the loop, are in queue_server_clients.cpp.
namespace carom::actors {

using runtime::queue_item;
using serialization::queue_message;
using serialization::queue_message_kind;

namespace {

/// More clients than these are not asked at each turn whether they have news.
constexpr std::size_t most_polled = 16;
/// Large items cost a descriptor each, of which a process may have 1024: more wait in the heap.
constexpr std::size_t most_memories = 128;
constexpr std::size_t most_spare_items = 4096;
/// A client that could not be given an item with descriptors is tried again after this.
constexpr std::chrono::milliseconds retry_after{10};

}  // namespace

bool queue_server::poll() {
  if (over_) return false;
  const std::int64_t now = runtime::steady_ns();
  bool found = false;
  for (std::size_t i = active_.size(); i-- > 0;) {
    const client who = active_[i];
    if (look(who, now)) {
      found = true;
    } else if (active_.size() > most_polled && seats_[who]->link.arm(false)) {
      seats_[who]->active = false;
      active_[i] = active_.back();
      active_.pop_back();
    }
  }
  if (found || !broken_.empty()) settle(now);
  return found;
}

bool queue_server::before_sleep() {
  if (over_) return true;
  bool quiet = true;
  // What a client has taken is kept here until that is heard: descriptors would hide ends.
  const bool takes = carried_out_ != 0 || core_.wants_to_hear_of_takes();
  if (takes)
    for (client who = 0; who < seats_.size(); ++who)
      if (seats_[who] && core_.any_out(who)) activate(who);
  std::size_t kept = 0;
  for (const client who : active_) {
    seat& one = *seats_[who];
    if (one.link.arm(takes && core_.any_out(who))) {
      one.active = false;
    } else {
      active_[kept++] = who;
      quiet = false;
    }
  }
  active_.resize(kept);
  return quiet;
}

void queue_server::turn() {
  begin();
  if (over_) return;
  open_door();
  for (client who = 0; who < seats_.size(); ++who)
    if (seats_[who]) read(who);
  const std::int64_t now = runtime::steady_ns();
  look_at_all(now);
  settle(now);
}

void queue_server::look_at_all(std::int64_t now) {
  for (client who = 0; who < seats_.size(); ++who)
    if (seats_[who]) look(who, now);
}

bool queue_server::look(client who, std::int64_t now) {
  seat& from = *seats_[who];
  // What it wants is read first: it wants no more only after it has put or taken.
  const auto wants = from.link.look();
  bool found = take_puts(who) | take_takes(who, now);
  if (wants.items_beat || wants.items.threads != from.items_wanted) {
    from.items_wanted = wants.items.threads;
    core_.has_space(who);
    core_.wants_items(who, from.items_wanted, wants.items_beat, now);
    found = true;
  }
  if (wants.room_beat || wants.room.threads != from.room_wanted) {
    from.room_wanted = wants.room.threads;
    core_.wants_room(who, from.room_wanted, wants.room_beat, now);
    found = true;
  }
  if (from.link.has_put_off() && !from.reading) read(who);
  if (from.link.corrupt()) let_go(who);
  return found;
}

bool queue_server::take_puts(client who) {
  runtime::queue_link& link = seats_[who]->link;
  std::uint32_t count = link.puts_waiting();
  if (count == 0) return false;
  for (; count != 0; --count) {
    queue_item* item = new_item();
    if (!link.take_in(*item)) {
      recycle(item);
      break;
    }
    if (item->memory) {
      ++memories_;
      if (memories_ > most_memories && copy_in(*item)) --memories_;
    }
    core_.put(who, item);
  }
  link.release_puts();
  touch(who);
  return true;
}

bool queue_server::take_takes(client who, std::int64_t now) {
  const std::uint64_t before = seats_[who]->link.taken_before();
  bool any = false;
  while (void* taken = core_.took(who, before, now)) {
    taken_out(taken);
    any = true;
  }
  return any;
}

void queue_server::taken_out(void* what) {
  if (!static_cast<queue_item*>(what)->plain()) --carried_out_;
  recycle(what);
}

// --- what the core decides -----------------------------------------------------------------------

void queue_server::settle(std::int64_t now) {
  serve(now);
  while (!broken_.empty()) {
    const client who = broken_.back();
    broken_.pop_back();
    disconnect(who, now);
    serve(now);
  }
  if (shut_ && present_ == 0 && gets_.empty() && puts_.empty()) end();
}

void queue_server::serve(std::int64_t now) {
  // A caller that is given an item may ask for the next.
  if (std::exchange(serving_, true)) return;
  for (;;) {
    const auto command = core_.next(now);
    switch (command.what_to_do) {
      case queue_core::act::deliver: deliver(command, now); continue;
      case queue_core::act::recall: recall(command, now); continue;
      case queue_core::act::grant:
        if (command.who == callers_) {
          caller_room_ += command.count;
          serve_puts(now);
        } else {
          seats_[command.who]->link.grant(command.count);
          touch(command.who);
        }
        continue;
      case queue_core::act::withdraw: withdraw_room(command); continue;
      case queue_core::act::nothing: break;
    }
    break;
  }
  serving_ = false;
  for (const client who : std::exchange(touched_, {})) {
    if (!seats_[who]) continue;
    seats_[who]->touched = false;
    seats_[who]->link.publish();
    watch_writable(who);
    if (seats_[who]->link.corrupt()) let_go(who);
  }
  if (!joiners_.empty() && core_.unfinished() == 0) tell_joined();
  if (core_.needs_timer()) arm_timer(std::chrono::nanoseconds(core_.grace_ns()));
}

void queue_server::deliver(const queue_core::command& what, std::int64_t now) {
  auto* const item = static_cast<queue_item*>(what.what);
  if (what.who == callers_) {
    core_.delivered(callers_, caller_position_, now);
    core_.took(callers_, ++caller_position_, now);
    got to = std::move(gets_.front().to);
    gets_.pop_front();
    core_.wants_items(callers_, static_cast<std::uint32_t>(gets_.size()), false, now);
    to(*item);
    drop_later(std::move(to));
    recycle(item);
    return;
  }
  runtime::queue_link& link = seats_[what.who]->link;
  if (const auto position = link.deliver(*item)) {
    core_.delivered(what.who, *position, now);
    if (!item->plain()) ++carried_out_;
  } else {
    core_.refused(what.who);
    if (!item->plain()) arm_timer(retry_after);
  }
  touch(what.who);
}

void queue_server::recall(const queue_core::command& what, std::int64_t now) {
  runtime::queue_link& link = seats_[what.who]->link;
  // What it has taken is no longer out.
  take_takes(what.who, now);
  for (std::uint64_t left = core_.out(what.who); left > what.count; --left) {
    const std::uint64_t position = core_.last_out(what.who);
    if (!link.recall(position)) {
      // It was faster with this one, and so with those before it.
      while (void* taken = core_.took(what.who, position + 1, now)) taken_out(taken);
      return;
    }
    if (!static_cast<queue_item*>(core_.recalled(what.who))->plain()) --carried_out_;
  }
}

void queue_server::withdraw_room(const queue_core::command& what) {
  if (what.who == callers_) {
    caller_room_ = std::min(caller_room_, what.count);
    core_.withdrawn(callers_, caller_room_);
    return;
  }
  runtime::queue_link& link = seats_[what.who]->link;
  link.withdraw(what.count);
  touch(what.who);
  take_puts(what.who);
  // A client that breaks the rules has no room at all.
  // What it has put since then needs its place.
  core_.withdrawn(what.who, link.corrupt() ? 0 : link.outstanding());
  if (link.corrupt()) let_go(what.who);
}

void queue_server::arm_timer(std::chrono::nanoseconds after) {
  const std::int64_t at = runtime::steady_ns() + after.count();
  if (timer_at_ns_ != 0 && timer_at_ns_ <= at) return;
  timer_at_ns_ = at;
  timer_->arm(after);
}

void queue_server::time_passed() {
  timer_at_ns_ = 0;
  const std::int64_t now = runtime::steady_ns();
  look_at_all(now);
  for (client who = 0; who < seats_.size(); ++who)
    if (seats_[who]) core_.has_space(who);
  core_.expire(now);
  settle(now);
}

void queue_server::touch(client who) {
  if (std::exchange(seats_[who]->touched, true)) return;
  touched_.push_back(who);
}

void queue_server::activate(client who) {
  if (std::exchange(seats_[who]->active, true)) return;
  active_.push_back(who);
}

// --- requests ------------------------------------------------------------------------------------

void queue_server::answer(client who, const queue_message& request) {
  seat& from = *seats_[who];
  const std::int64_t now = runtime::steady_ns();
  switch (request.kind) {
    case queue_message_kind::look: return activate(who);
    case queue_message_kind::leave: return let_go(who);
    case queue_message_kind::forget:
      std::erase_if(joiners_,
                    [&](const joiner& j) { return j.who == who && j.request == request.id; });
      return;
    default: break;
  }
  // Answers count what anybody had put or taken before they were asked for.
  look_at_all(now);
  switch (request.kind) {
    case queue_message_kind::size: return from.link.reply(request.id, core_.size());
    case queue_message_kind::take:
      core_.wants_items(who, from.items_wanted + 1, true, now);
      core_.urge(who);
      serve(now);
      core_.urge(std::nullopt);
      from.link.reply(request.id, core_.any_out(who));
      core_.promise(who);
      core_.wants_items(who, from.items_wanted, false, now);
      return;
    case queue_message_kind::room:
      core_.wants_room(who, from.room_wanted + 1, true, now);
      core_.urge_room(who);
      serve(now);
      core_.urge_room(std::nullopt);
      from.link.reply(request.id, core_.has_room(who));
      core_.promise_room(who);
      core_.wants_room(who, from.room_wanted, false, now);
      return;
    case queue_message_kind::unfinished: return from.link.reply(request.id, core_.unfinished());
    case queue_message_kind::done: return from.link.reply(request.id, core_.done());
    case queue_message_kind::join:
      if (core_.unfinished() == 0) return from.link.reply(request.id, 1);
      if (joiners_.size() >= 65536) return let_go(who);
      joiners_.push_back({who, request.id});
      return;
    default:
      log()->warn("a client of a queue sent a message that no client sends");
      return let_go(who);
  }
}

void queue_server::tell_joined() {
  for (const joiner& one : std::exchange(joiners_, {})) {
    if (!seats_[one.who]) continue;
    seats_[one.who]->link.reply(one.request, 1);
    watch_writable(one.who);
  }
}

// --- items ---------------------------------------------------------------------------------------

queue_item* queue_server::new_item() {
  if (spare_items_.empty()) return new queue_item;
  queue_item* item = spare_items_.back().release();
  spare_items_.pop_back();
  return item;
}

void queue_server::recycle(void* what) {
  std::unique_ptr<queue_item> item(static_cast<queue_item*>(what));
  if (item->memory) --memories_;
  if (spare_items_.size() >= most_spare_items || item->bytes.capacity() > 4096) return;
  item->clear();
  spare_items_.push_back(std::move(item));
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#include "actors/queue_core.hpp"

#include <algorithm>
#include <utility>

namespace carom::actors {

queue_core::client queue_core::connect() {
  const auto free =
      std::find_if(clients_.begin(), clients_.end(), [](const place& p) { return !p.used; });
  const auto who = static_cast<client>(free - clients_.begin());
  if (free == clients_.end()) clients_.emplace_back();
  clients_[who].used = true;
  return who;
}

void queue_core::disconnect(client who) {
  place& p = clients_[who];
  change(p, [&] {
    out_ -= p.out.size();
    room_ -= p.room;
    for (; !p.out.empty(); p.out.pop_back()) waiting_.push_front(p.out.back().what);
    const bool listed = p.listed, room_listed = p.room_listed;
    p = place{};
    p.listed = listed;
    p.room_listed = room_listed;
  });
  if (taker_ == who) taker_.reset();
  if (holder_ == who) holder_.reset();
  if (putter_ == who) putter_.reset();
}

void queue_core::put(client from, item what) {
  place& p = clients_[from];
  waiting_.push_back(what);
  ++unfinished_;
  if (options_.maxsize == 0 || p.room == 0) return;
  change(p, [&] {
    --p.room;
    p.room_late = false;
    if (p.room_promised != 0) --p.room_promised;
  });
  --room_;
  if (asks_room(p)) list_room(from);
}

void queue_core::wants_items(client who, std::uint32_t threads, bool alive, std::int64_t now) {
  place& p = clients_[who];
  change(p, [&] {
    p.waiting_threads = threads;
    if (alive) p.late = false;
  });
  if (alive && !p.out.empty()) p.since_ns = now;
  if (!asks(p)) return;
  if (alive) {
    // Alone, it is trusted with twice as much; whoever comes anew begins with what it asks for.
    if (taker_ == who) {
      p.ahead = std::min(p.ahead * 2 + 1, options_.most_ahead);
    } else {
      taker_ = who;
      p.ahead = 0;
    }
  }
  list(who);
}

void queue_core::wants_room(client who, std::uint32_t threads, bool alive, std::int64_t now) {
  if (options_.maxsize == 0) return;
  place& p = clients_[who];
  change(p, [&] {
    p.room_threads = threads;
    if (alive) p.room_late = false;
  });
  if (alive && p.room != 0) p.room_since_ns = now;
  if (!asks_room(p)) return;
  if (alive) {
    if (putter_ == who) {
      p.room_ahead = std::min(p.room_ahead * 2 + 1, options_.most_ahead);
    } else {
      putter_ = who;
      p.room_ahead = 0;
    }
  }
  list_room(who);
}

void queue_core::promise(client who) {
  place& p = clients_[who];
  p.promised = std::min<std::uint64_t>(p.promised + 1, p.out.size());
}

void queue_core::promise_room(client who) {
  place& p = clients_[who];
  change(p, [&] { p.room_promised = std::min(p.room_promised + 1, p.room); });
}

queue_core::item queue_core::took(client who, std::uint64_t position, std::int64_t now) {
  place& p = clients_[who];
  if (p.out.empty() || p.out.front().position >= position) return nullptr;
  const item taken = p.out.front().what;
  change(p, [&] {
    p.out.pop_front();
    p.late = false;
    if (p.promised != 0) --p.promised;
  });
  if (--out_ == 0) holder_.reset();
  p.since_ns = now;
  p.has_space = true;
  if (asks(p)) list(who);
  return taken;
}

void queue_core::has_space(client who) {
  place& p = clients_[who];
  if (p.has_space) return;
  p.has_space = true;
  if (asks(p)) list(who);
}

void queue_core::expire(std::int64_t now) {
  const bool item_wanted = asker().has_value(), room_wanted = room_asker().has_value();
  for (place& p : clients_)
    if (p.used)
      change(p, [&] {
        if (item_wanted && !p.out.empty() && now - p.since_ns >= options_.grace_ns) p.late = true;
        if (room_wanted && p.room != 0 && now - p.room_since_ns >= options_.grace_ns)
          p.room_late = true;
      });
}

queue_core::command queue_core::next(std::int64_t now) {
  const command items = serve_items();
  return items.what_to_do != act::nothing || options_.maxsize == 0 ? items : serve_room(now);
}

queue_core::command queue_core::serve_items() {
  const bool urgent = urgent_ && asks(clients_[*urgent_]);
  const auto first = urgent ? urgent_ : asker();
  const auto to = first ? first : taker_;
  if (!to) return {};
  if (holder_ && *holder_ != *to) {
    // Older items are out: what nobody waits for comes back first, the rest is about to be taken.
    const place& p = clients_[*holder_];
    const std::uint64_t back = urgent ? p.out.size() : spare(p);
    if (first && back != 0) return {act::recall, *holder_, p.out.size() - back, nullptr};
    return {};
  }
  if (waiting_.empty()) return {};
  const place& p = clients_[*to];
  const bool ahead =
      p.has_space && !p.late && p.out.size() < std::uint64_t{p.waiting_threads} + p.ahead;
  if (first || ahead) return {act::deliver, *to, 0, waiting_.front()};
  return {};
}

queue_core::command queue_core::grant(client to, std::uint64_t count, std::int64_t now) {
  place& p = clients_[to];
  if (p.room == 0) p.room_since_ns = now;
  change(p, [&] { p.room += count; });
  room_ += count;
  return {act::grant, to, count, nullptr};
}

queue_core::command queue_core::serve_room(std::int64_t now) {
  const std::uint64_t free = free_room();
  const bool urgent = room_urgent_ && asks_room(clients_[*room_urgent_]);
  if (const auto first = urgent ? room_urgent_ : room_asker()) {
    place& p = clients_[*first];
    if (free == 0) {
      if (urgent ? room_ != 0 : spare_room_ != 0)
        for (client c = 0; c < clients_.size(); ++c) {
          if (c == *first) continue;
          const place& other = clients_[c];
          const std::uint64_t back = urgent ? other.room : spare_room(other);
          if (back != 0) return {act::withdraw, c, other.room - back, nullptr};
        }
      return {};
    }
    if (!room_askers_.empty() && room_askers_.front() == *first) {
      room_askers_.pop_front();
      p.room_listed = false;
    }
    const command granted = grant(*first, 1, now);
    if (asks_room(p)) list_room(*first);
    return granted;
  }
  if (free == 0 || !putter_) return {};
  place& p = clients_[*putter_];
  const std::uint64_t wanted = std::uint64_t{p.room_threads} + p.room_ahead;
  if (p.room_late || p.room >= wanted) return {};
  return grant(*putter_, std::min(free, wanted - p.room), now);
}

void queue_core::delivered(client to, std::uint64_t position, std::int64_t now) {
  place& p = clients_[to];
  if (p.out.empty()) p.since_ns = now;
  change(p, [&] { p.out.push_back({position, waiting_.front()}); });
  waiting_.pop_front();
  ++out_;
  holder_ = to;
  if (!askers_.empty() && askers_.front() == to) {
    askers_.pop_front();
    p.listed = false;
  }
  if (asks(p)) list(to);
}

void queue_core::refused(client to) { clients_[to].has_space = false; }

queue_core::item queue_core::recalled(client who) {
  place& p = clients_[who];
  const item back = p.out.back().what;
  change(p, [&] {
    waiting_.push_front(back);
    p.out.pop_back();
    p.promised = std::min<std::uint64_t>(p.promised, p.out.size());
  });
  if (--out_ == 0) holder_.reset();
  if (asks(p)) list(who);
  return back;
}

void queue_core::withdrawn(client who, std::uint64_t left) {
  place& p = clients_[who];
  room_ -= p.room;
  change(p, [&] {
    p.room = left;
    p.room_promised = std::min(p.room_promised, left);
  });
  room_ += left;
  if (asks_room(p)) list_room(who);
}

bool queue_core::done() {
  if (unfinished_ == 0) return false;
  --unfinished_;
  return true;
}

bool queue_core::needs_timer() const {
  return (out_ != 0 && any_of(askers_, [this](const place& p) { return asks(p); })) ||
         (room_ != 0 && any_of(room_askers_, [this](const place& p) { return asks_room(p); }));
}

bool queue_core::wants_to_hear_of_takes() const {
  if (out_ == 0) return false;
  return any_of(askers_, [this](const place& p) { return asks(p); }) ||
         any_of(room_askers_, [this](const place& p) { return asks_room(p); });
}

queue_core::item queue_core::drop_any() {
  if (waiting_.empty()) return nullptr;
  const item last = waiting_.back();
  waiting_.pop_back();
  return last;
}

void queue_core::list(client who) {
  if (std::exchange(clients_[who].listed, true)) return;
  askers_.push_back(who);
}

void queue_core::list_room(client who) {
  if (std::exchange(clients_[who].room_listed, true)) return;
  room_askers_.push_back(who);
}

std::optional<queue_core::client> queue_core::asker() {
  for (; !askers_.empty(); askers_.pop_front()) {
    if (asks(clients_[askers_.front()])) return askers_.front();
    clients_[askers_.front()].listed = false;
  }
  return std::nullopt;
}

std::optional<queue_core::client> queue_core::room_asker() {
  for (; !room_askers_.empty(); room_askers_.pop_front()) {
    if (asks_room(clients_[room_askers_.front()])) return room_askers_.front();
    clients_[room_askers_.front()].room_listed = false;
  }
  return std::nullopt;
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace carom::actors {

/// Every rule of a queue: who gets which item and when, who may put how much, what becomes of what
/// a client leaves behind. Deterministic; no clock, no I/O: the shell tells what happened and does
/// what `next` says until it says nothing more.
///
/// Items are the shell's: an address, never looked at. An item is *waiting* here or *out* with one
/// client until that takes it; both count as in the queue. Items are out with one client at a time,
/// so they are taken in exactly the order in which they came, whoever takes them, dies or stops.
/// Room that was granted and not used counts for nothing but is kept free, so that there are never
/// more than `maxsize` items.
class queue_core {
 public:
  using client = std::uint32_t;
  using item = void*;

  struct options {
    std::uint64_t maxsize = 0;  // 0: no bound
    /// Most items that the one client that takes is given before it asks, and room likewise.
    std::uint32_t most_ahead = 255;
    /// Who has not taken for so long what it waited for is taken to be stopped.
    std::int64_t grace_ns = 250'000'000;
  };

  explicit queue_core(const options& chosen) : options_(chosen) {}

  client connect();
  /// Its last act is known: what is out with it goes back to its place, its room to the others.
  void disconnect(client who);
  /// Most clients there ever were at a time: their numbers are below.
  client places() const { return static_cast<client>(clients_.size()); }

  // What happened.

  /// It has put an item, and used one unit of its room.
  void put(client from, item what);
  /// So many of its threads wait for an item. `alive`: it has said so anew.
  void wants_items(client who, std::uint32_t threads, bool alive, std::int64_t now);
  void wants_room(client who, std::uint32_t threads, bool alive, std::int64_t now);
  /// It has taken everything before `position`: gives the next such item, or null.
  item took(client who, std::uint64_t position, std::int64_t now);
  /// An item comes back that was taken: it goes first, beyond `maxsize` if need be.
  void give_back(item what) { waiting_.push_front(what); }
  /// It can be given something again.
  void has_space(client who);
  /// It does not wait: what is there is for it, also what another was given and has not taken.
  void urge(std::optional<client> who) { urgent_ = who; }
  void urge_room(std::optional<client> who) { room_urgent_ = who; }
  /// It was told that there is an item, or room, for it: that stays so until it is used or late.
  void promise(client who);
  void promise_room(client who);
  /// Time has passed: those that are late lose their turn.
  void expire(std::int64_t now);

  // What is to be done.

  enum class act {
    nothing,
    deliver,   // give `what` to `who`: answer `delivered` or `refused`
    recall,    // take back from `who` the last of its items until it has `count`: answer `recalled`
               // for each, in that order, and `took` for those that it was faster to take
    grant,     // let `who` put `count` more
    withdraw,  // take back unused room from `who` until it has `count`; then tell what it has put,
               // and answer `withdrawn`
  };
  struct command {
    act what_to_do = act::nothing;
    client who = 0;
    std::uint64_t count = 0;
    item what = nullptr;
  };
  command next(std::int64_t now);

  void delivered(client to, std::uint64_t position, std::int64_t now);
  void refused(client to);
  /// The position of the last item that is out with it.
  std::uint64_t last_out(client who) const { return clients_[who].out.back().position; }
  item recalled(client who);
  /// It has `left` units of room now.
  void withdrawn(client who, std::uint64_t left);

  // What is so.

  std::uint64_t size() const { return waiting_.size() + out_; }
  bool any_out(client who) const { return !clients_[who].out.empty(); }
  std::uint64_t out(client who) const { return clients_[who].out.size(); }
  bool has_room(client who) const { return options_.maxsize == 0 || clients_[who].room != 0; }
  /// Items taken or not whose work nobody has called done.
  std::uint64_t unfinished() const { return unfinished_; }
  /// An item's work is done; false if there was none.
  bool done();
  /// Somebody waits for what another client holds: `expire` must be called in time.
  bool needs_timer() const;
  std::int64_t grace_ns() const { return options_.grace_ns; }
  /// Somebody waits for room or for an item, and a take would bring him nearer to it.
  bool wants_to_hear_of_takes() const;
  /// Gives up an item that waits, or null; for the end of the queue.
  item drop_any();

 private:
  struct out_entry {
    std::uint64_t position;
    item what;
  };
  struct place {
    bool used = false;
    bool has_space = true;
    std::deque<out_entry> out;
    std::uint32_t waiting_threads = 0;
    std::uint64_t promised = 0;  // of those out with it, to threads that do not wait
    std::uint32_t ahead = 0;     // how many items beyond what it waits for
    std::int64_t since_ns = 0;   // its first item has been out
    bool late = false;           // has not taken what it waited for in time
    bool listed = false;         // in `askers_`
    std::uint32_t room_threads = 0;
    std::uint64_t room = 0;  // granted and not used
    std::uint64_t room_promised = 0;
    std::uint32_t room_ahead = 0;
    std::int64_t room_since_ns = 0;
    bool room_late = false;
    bool room_listed = false;  // in `room_askers_`
  };

  bool asks(const place& p) const {
    return p.used && p.has_space && !p.late && p.out.size() < p.waiting_threads;
  }
  bool asks_room(const place& p) const { return p.used && !p.room_late && p.room < p.room_threads; }
  /// How many of the items out with it may be taken back for others.
  std::uint64_t spare(const place& p) const {
    if (p.late) return p.out.size();
    const std::uint64_t owed = p.waiting_threads + p.promised;
    return p.out.size() > owed ? p.out.size() - owed : 0;
  }
  std::uint64_t spare_room(const place& p) const {
    if (p.room_late) return p.room;
    const std::uint64_t owed = p.room_threads + p.room_promised;
    return p.room > owed ? p.room - owed : 0;
  }
  template <class F>
  bool any_of(const std::deque<client>& listed, F is) const {
    return std::any_of(listed.begin(), listed.end(), [&](client c) { return is(clients_[c]); });
  }
  /// Carries out a change of what `spare_room` depends on.
  template <class F>
  void change(place& p, F f) {
    spare_room_ -= spare_room(p);
    f();
    spare_room_ += spare_room(p);
  }
  void list(client who);
  void list_room(client who);
  std::optional<client> asker();
  std::optional<client> room_asker();
  command serve_items();
  command serve_room(std::int64_t now);
  command grant(client to, std::uint64_t count, std::int64_t now);
  std::uint64_t free_room() const {
    const std::uint64_t used = size() + room_;
    return used < options_.maxsize ? options_.maxsize - used : 0;
  }

  options options_;
  std::vector<place> clients_;
  std::deque<item> waiting_;
  std::deque<client> askers_;
  std::deque<client> room_askers_;
  std::optional<client> taker_;   // who asked for an item last
  std::optional<client> putter_;  // who asked for room last
  std::optional<client> urgent_, room_urgent_;
  std::optional<client> holder_;  // with whom items are out
  std::uint64_t out_ = 0;         // how many
  std::uint64_t room_ = 0;        // over all clients, as the next
  std::uint64_t spare_room_ = 0;
  std::uint64_t unfinished_ = 0;
};

}  // namespace carom::actors

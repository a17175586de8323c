// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "actors/queue_core.hpp"
#include "runtime/channel.hpp"
#include "runtime/host_runtime.hpp"
#include "runtime/loop.hpp"
#include "runtime/queue_host.hpp"
#include "runtime/queue_item.hpp"
#include "runtime/queue_link.hpp"

namespace carom::actors {

/// A queue: carries what its clients do to `queue_core` and carries out what that decides. Lives on
/// the loop's thread, which alone calls it, until no process has a handle and no client is
/// connected. It is an actor in all but its base class: it shares nothing, and hears of everything
/// by messages and rings, so a queue needs no actor system; `queue_actor` is its face to CAF.
class queue_server final : public runtime::queue_host,
                           private runtime::loop::poller,
                           public std::enable_shared_from_this<queue_server> {
 public:
  /// Throws std::system_error. `door`: the end that handles are made of.
  static std::shared_ptr<queue_server> start(std::shared_ptr<runtime::host_runtime> host,
                                             const queue_core::options& options,
                                             runtime::unique_fd& door);
  ~queue_server() override;

  void turn() override;
  void look_for_end() override;

  // For callers on the loop, without a channel: what actors ask.

  using got = std::function<void(runtime::queue_item&)>;
  using put_done = std::function<void()>;
  /// Calls `to` with the next item, now or later, unless it is withdrawn.
  std::uint64_t get(got to);
  /// Calls `then` when the item is in the queue.
  std::uint64_t put(runtime::queue_item item, put_done then);
  /// An item that was got and that nobody wants any more.
  void give_back(runtime::queue_item item);
  /// Takes back what has not happened; false if it has.
  bool withdraw(std::uint64_t ticket);
  runtime::loop& events() noexcept { return events_; }

 private:
  using client = queue_core::client;

  /// A client, and the loop's watches on it.
  struct seat {
    explicit seat(runtime::queue_link&& its) : link(std::move(its)) {}
    runtime::queue_link link;
    std::uint64_t number = next_number();
    std::uint32_t items_wanted = 0;
    std::uint32_t room_wanted = 0;
    bool active = false;
    bool touched = false;
    bool leaving = false;
    bool reading = false;
    std::unique_ptr<runtime::loop::watch> readable;
    std::unique_ptr<runtime::loop::watch> writable;
    std::unique_ptr<runtime::loop::watch> death;

    static std::uint64_t next_number() {
      static std::uint64_t last = 0;  // the loop's thread's
      return ++last;
    }
  };

  queue_server(std::shared_ptr<runtime::host_runtime> host, const queue_core::options& options,
               runtime::channel door);

  // loop::poller
  bool poll() override;
  bool before_sleep() override;

  void begin();
  void end();

  // clients
  void watch_door();
  bool has_room_for_a_knock() const;
  void open_door();
  void let_in(runtime::message& knock);
  void read(client who);
  void answer(client who, const serialization::queue_message& request);
  void watch_writable(client who);
  /// It will be disconnected in `settle`; what it has put before is in the queue.
  void let_go(client who);
  void disconnect(client who, std::int64_t now);
  void touch(client who);
  void activate(client who);

  /// Takes in what it has put and taken and what it wants; whether there was anything.
  bool look(client who, std::int64_t now);
  void look_at_all(std::int64_t now);
  bool take_puts(client who);
  bool take_takes(client who, std::int64_t now);

  /// Does what follows from what was taken in, disconnects, ends; behind each event.
  void settle(std::int64_t now);
  void serve(std::int64_t now);
  void deliver(const queue_core::command& what, std::int64_t now);
  void recall(const queue_core::command& what, std::int64_t now);
  void withdraw_room(const queue_core::command& what);
  void serve_puts(std::int64_t now);
  /// What callers gave may hold the queue's last handle: it goes when nothing here is under way.
  template <class F>
  void drop_later(F what) {
    events_.post([held = std::make_shared<F>(std::move(what))] {});
  }
  void tell_joined();
  void arm_timer(std::chrono::nanoseconds after);
  void time_passed();

  runtime::queue_item* new_item();
  void recycle(void* item);
  /// A client has it.
  void taken_out(void* item);

  std::shared_ptr<runtime::host_runtime> host_;
  runtime::loop& events_;
  queue_core core_;
  const bool bounded_;
  runtime::channel door_;
  std::unique_ptr<runtime::loop::watch> door_watch_;
  std::unique_ptr<runtime::loop::timer> door_timer_;
  bool crowded_ = false;  // no descriptor is free for whoever knocks
  std::unique_ptr<runtime::loop::timer> timer_;
  std::int64_t timer_at_ns_ = 0;  // 0: not armed
  bool begun_ = false;
  bool shut_ = false;  // nobody can knock any more
  bool over_ = false;
  bool serving_ = false;
  std::vector<std::unique_ptr<seat>> seats_;  // by client
  std::size_t present_ = 0;
  std::vector<client> active_;   // polled
  std::vector<client> touched_;  // to be shown what was done
  std::vector<client> broken_;   // to be let go
  struct joiner {
    client who;
    std::uint64_t request;
  };
  std::vector<joiner> joiners_;
  std::vector<std::unique_ptr<runtime::queue_item>> spare_items_;
  std::size_t memories_ = 0;     // descriptors of large items that are held
  std::size_t carried_out_ = 0;  // items with descriptors or memory that are out with clients

  /// Those who call on the loop are one client, the first.
  struct caller_get {
    std::uint64_t ticket;
    got to;
  };
  struct caller_put {
    std::uint64_t ticket;
    runtime::queue_item item;
    put_done then;
  };
  client callers_;
  std::deque<caller_get> gets_;
  std::deque<caller_put> puts_;
  std::uint64_t caller_position_ = 0;
  std::uint64_t caller_room_ = 0;
  std::uint64_t last_ticket_ = 0;
  std::shared_ptr<queue_server> self_;  // until it ends
};

}  // namespace carom::actors

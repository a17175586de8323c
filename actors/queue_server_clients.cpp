// SPDX-License-Identifier: BSL-1.0
#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <carom/log.hpp>
#include <chrono>
#include <utility>

#include "actors/queue_server.hpp"
#include "runtime/clock.hpp"
#include "runtime/pidfd.hpp"

// Clients that come and go, callers on the loop, the queue's beginning and end.
namespace carom::actors {

using runtime::channel_errc;
using runtime::queue_item;
using serialization::queue_message_kind;

namespace {

constexpr std::size_t most_clients = 4096;
/// Its page, its channel, itself.
constexpr std::size_t fds_of_a_knock = 3;
constexpr std::chrono::milliseconds look_for_room_every{20};
/// Messages that one client may have read before it is the others' turn.
constexpr int most_at_once = 64;

}  // namespace

queue_server::queue_server(std::shared_ptr<runtime::host_runtime> host,
                           const queue_core::options& options, runtime::channel door)
    : host_(std::move(host)),
      events_(host_->events()),
      core_(options),
      bounded_(options.maxsize != 0),
      door_(std::move(door)),
      callers_(core_.connect()) {
  seats_.resize(1);
}

queue_server::~queue_server() = default;

std::shared_ptr<queue_server> queue_server::start(std::shared_ptr<runtime::host_runtime> host,
                                                  const queue_core::options& options,
                                                  runtime::unique_fd& door) {
  auto [inside, outside] = runtime::channel::make_pair();
  std::shared_ptr<queue_server> made(new queue_server(std::move(host), options, std::move(inside)));
  door = outside.release();
  made->events_.post([made] { made->begin(); });
  return made;
}

void queue_server::begin() {
  if (std::exchange(begun_, true)) return;
  self_ = shared_from_this();
  events_.add(*this);
  timer_ = events_.make_timer([this] { time_passed(); });
  door_timer_ = events_.make_timer([this] { watch_door(); });
  watch_door();
}

void queue_server::watch_door() {
  if (shut_) return;
  door_watch_ = events_.on_readable(door_.fd(), [this] {
    open_door();
    settle(runtime::steady_ns());
  });
}

/// What is received while there is no room for its descriptors is lost, and with it what the client
/// has put by then.
bool queue_server::has_room_for_a_knock() const {
  std::array<runtime::unique_fd, fds_of_a_knock> tried;
  return std::ranges::all_of(tried, [this](runtime::unique_fd& one) {
    one = runtime::unique_fd(::fcntl(door_.fd(), F_DUPFD_CLOEXEC, 3));
    return static_cast<bool>(one);
  });
}

void queue_server::open_door() {
  runtime::message knock;
  for (int i = 0; i < most_at_once && !shut_; ++i) {
    pollfd knocked{door_.fd(), POLLIN, 0};
    if (::poll(&knocked, 1, 0) <= 0) return;
    if (!has_room_for_a_knock()) {
      if (!std::exchange(crowded_, true))
        log()->error(
            "no process can connect to a queue until a descriptor is free here: close some, or raise "
            "RLIMIT_NOFILE");
      door_watch_.reset();
      door_timer_->arm(look_for_room_every);
      return;
    }
    crowded_ = false;
    const std::error_code error = door_.receive(knock);
    if (!error) {
      let_in(knock);
    } else if (error == channel_errc::end_of_file) {
      // Or somebody has sent nothing.
      pollfd state{door_.fd(), POLLIN, 0};
      if (::poll(&state, 1, 0) > 0 && state.revents & POLLHUP) {
        shut_ = true;
        door_watch_.reset();
      }
    } else if (error == channel_errc::descriptors_lost) {
      log()->error(
          "a process could not connect to a queue: no free descriptor here; close some, or raise "
          "RLIMIT_NOFILE");
    } else if (error != channel_errc::oversized) {
      return;
    }
  }
}

void queue_server::let_in(runtime::message& knock) {
  const auto told = serialization::unpack_queue_message(knock.bytes);
  if (!told || told->kind != queue_message_kind::knock || knock.fds.size() != fds_of_a_knock)
    return;
  if (present_ >= most_clients) {
    log()->error("a queue has {} clients and lets no other in", most_clients);
    return;
  }
  // What this process put through an earlier connection comes first.
  const std::int64_t now = runtime::steady_ns();
  look_at_all(now);
  std::optional<client> seated;
  try {
    auto fresh = std::make_unique<seat>(runtime::queue_link(
        std::move(knock.fds[0]), std::move(knock.fds[1]), std::move(knock.fds[2]), bounded_));
    const client who = core_.connect();
    if (seats_.size() <= who) seats_.resize(who + std::size_t{1});
    seats_[who] = std::move(fresh);
    ++present_;
    seated = who;
    seat& one = *seats_[who];
    one.readable = events_.on_readable(one.link.fd(), [this, who] {
      read(who);
      settle(runtime::steady_ns());
    });
    one.death = events_.on_readable(one.link.pidfd(), [this, who] {
      if (runtime::has_ended(seats_[who]->link.pidfd())) {
        let_go(who);
        settle(runtime::steady_ns());
      } else {
        seats_[who]->death.reset();  // whatever that is, it would not be silent
      }
    });
    activate(who);
  } catch (const std::exception& e) {
    log()->warn("a queue refused a client: {}", e.what());
    if (seated) let_go(*seated);
  }
}

void queue_server::read(client who) {
  seat& from = *seats_[who];
  if (std::exchange(from.reading, true)) return;
  int left = most_at_once;
  for (; left > 0 && !from.leaving; --left) {
    const auto message = from.link.receive();
    if (!message) break;
    answer(who, *message);
  }
  from.reading = false;
  watch_writable(who);
  if (from.link.corrupt() || (from.link.ended() && !from.link.has_put_off())) return let_go(who);
  if (left == 0)
    events_.post([weak = weak_from_this(), who, number = from.number] {
      const auto self = weak.lock();
      if (!self || self->over_ || !self->seats_[who] || self->seats_[who]->number != number) return;
      self->read(who);
      self->settle(runtime::steady_ns());
    });
}

void queue_server::watch_writable(client who) {
  seat& to = *seats_[who];
  if (!to.link.wants_write() || to.writable) return;
  to.writable = events_.on_writable(to.link.fd(), [this, who] {
    seat& one = *seats_[who];
    one.link.flush();
    if (one.link.wants_write()) return;
    one.writable.reset();
    core_.has_space(who);
    settle(runtime::steady_ns());
  });
}

void queue_server::let_go(client who) {
  if (std::exchange(seats_[who]->leaving, true)) return;
  broken_.push_back(who);
}

void queue_server::disconnect(client who, std::int64_t now) {
  seat& gone = *seats_[who];
  if (const char* why = gone.link.corrupt())
    log()->warn("a client of a queue broke the rules and is disconnected: {}", why);
  // What it has put before is in the queue, what it had not taken is there again.
  // One that goes on putting has no more room to do so.
  gone.link.withdraw(0);
  take_puts(who);
  recall({queue_core::act::recall, who, 0, nullptr}, now);
  core_.disconnect(who);
  std::erase(active_, who);
  std::erase(touched_, who);
  std::erase(broken_, who);
  std::erase_if(joiners_, [who](const joiner& j) { return j.who == who; });
  seats_[who].reset();
  --present_;
}

void queue_server::look_for_end() {
  if (over_) return;
  turn();
}

void queue_server::end() {
  if (std::exchange(over_, true)) return;
  events_.remove(*this);
  door_watch_.reset();
  door_timer_.reset();
  timer_.reset();
  while (void* item = core_.drop_any()) recycle(item);
  spare_items_.clear();
  // Behind what is going on now, which may be in the middle of this.
  events_.post([self = std::move(self_)] {});
  const auto host = std::move(host_);
}

// --- callers on the loop -------------------------------------------------------------------------

std::uint64_t queue_server::get(got to) {
  begin();
  const std::uint64_t ticket = ++last_ticket_;
  const std::int64_t now = runtime::steady_ns();
  gets_.push_back({ticket, std::move(to)});
  look_at_all(now);
  core_.wants_items(callers_, static_cast<std::uint32_t>(gets_.size()), false, now);
  settle(now);
  return ticket;
}

std::uint64_t queue_server::put(queue_item item, put_done then) {
  begin();
  const std::uint64_t ticket = ++last_ticket_;
  const std::int64_t now = runtime::steady_ns();
  puts_.push_back({ticket, std::move(item), std::move(then)});
  look_at_all(now);
  if (bounded_) core_.wants_room(callers_, static_cast<std::uint32_t>(puts_.size()), false, now);
  serve_puts(now);
  settle(now);
  return ticket;
}

void queue_server::serve_puts(std::int64_t now) {
  while (!puts_.empty() && (!bounded_ || caller_room_ != 0)) {
    caller_put first = std::move(puts_.front());
    puts_.pop_front();
    queue_item* item = new_item();
    *item = std::move(first.item);
    if (item->memory) ++memories_;
    core_.put(callers_, item);
    if (bounded_) {
      --caller_room_;
      core_.wants_room(callers_, static_cast<std::uint32_t>(puts_.size()), false, now);
    }
    first.then();
    drop_later(std::move(first.then));
  }
}

void queue_server::give_back(queue_item item) {
  if (over_) return;
  queue_item* kept = new_item();
  *kept = std::move(item);
  if (kept->memory) ++memories_;
  core_.give_back(kept);
  settle(runtime::steady_ns());
}

bool queue_server::withdraw(std::uint64_t ticket) {
  const auto is = [ticket](const auto& one) { return one.ticket == ticket; };
  bool found = false;
  const auto take_from = [&](auto& list) {
    const auto at = std::find_if(list.begin(), list.end(), is);
    if (at == list.end()) return;
    found = true;
    drop_later(std::move(*at));
    list.erase(at);
  };
  take_from(gets_);
  take_from(puts_);
  const std::int64_t now = runtime::steady_ns();
  core_.wants_items(callers_, static_cast<std::uint32_t>(gets_.size()), false, now);
  if (bounded_) core_.wants_room(callers_, static_cast<std::uint32_t>(puts_.size()), false, now);
  settle(now);
  return found;
}

}  // namespace carom::actors

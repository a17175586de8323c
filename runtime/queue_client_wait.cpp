// SPDX-License-Identifier: BSL-1.0
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include <array>
#include <carom/errors.hpp>
#include <carom/this_task.hpp>
#include <utility>

#include "runtime/clock.hpp"
#include "runtime/futex.hpp"
#include "runtime/queue_wait.hpp"
#include "runtime/worker_identity.hpp"

// How the threads of a process wait for a queue's host.
namespace carom::runtime {
namespace {

/// How long to look for what comes before sleeping: the host is at work in the same moment.
constexpr std::int64_t news_wait_ns = 20'000;

timespec until_then(const std::optional<std::chrono::steady_clock::time_point>& until) {
  using namespace std::chrono;
  const auto left = *until - steady_clock::now();
  const auto ns = std::max<std::int64_t>(duration_cast<nanoseconds>(left).count(), 0);
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

}  // namespace

queue_client::lock queue_client::enter() {
  lock held(mutex_, std::defer_lock);
  take(held);
  return held;
}

void queue_client::take(lock& free) {
  if (!ends_.here || !on_loop_thread()) return free.lock();
  // Who has it may be waiting until the host has received, which it does on this thread.
  while (!free.try_lock()) {
    ends_.here->turn();
    ::sched_yield();
  }
}

queue_client::picture queue_client::look() const {
  const page_header& header = page_->rings.header;
  return {header.task_tail.load(std::memory_order_seq_cst),
          page_->puts.load(std::memory_order_seq_cst),
          header.result_head.load(std::memory_order_seq_cst),
          page_->host_turn.load(std::memory_order_seq_cst), turn_.load(std::memory_order_relaxed)};
}

void queue_client::lead(lock& held, const picture& before, deadline until, bool brief) {
  led_ = true;
  auto& waits = page_->rings.header.worker_waits;
  held.unlock();
  bool news = false;
  if (!brief)
    for (const std::int64_t end = steady_ns() + news_wait_ns; !news && steady_ns() < end;) {
      news = look() != before;
      if (!news) ::sched_yield();
    }
  bool host_ended = false;
  if (!news) {
    // The host changes something and then looks at the flag; so look once more behind the flag.
    waits.store(static_cast<std::uint32_t>(worker_wait::tasks), std::memory_order_seq_cst);
    if (look() == before) {
      std::array<pollfd, 3> what{
          {{channel_.fd(), POLLIN, 0}, {nudge_.get(), POLLIN, 0}, {ends_.host_pidfd, POLLIN, 0}}};
      timespec left{};
      if (until) left = until_then(until);
      ::ppoll(what.data(), what.size(), until ? &left : nullptr, nullptr);
      host_ended = what[2].revents != 0;
      if (what[1].revents) {
        eventfd_t count = 0;
        (void)::eventfd_read(nudge_.get(), &count);
      }
    }
    waits.store(static_cast<std::uint32_t>(worker_wait::no), std::memory_order_seq_cst);
  }
  held.lock();
  led_ = false;
  receive_all(true);
  if (host_ended && broken_.empty()) broken_ = why_gone();
  // One of the others leads from now on, if this thread has what it waited for.
  wake_followers();
}

void queue_client::follow(lock& held, const picture& before, deadline until) {
  ++followers_;
  held.unlock();
  futex_wait(turn_, before.turn, until);
  held.lock();
  --followers_;
}

void queue_client::wake_followers() {
  turn_.fetch_add(1, std::memory_order_relaxed);
  if (followers_ != 0) futex_wake_all(turn_);
}

void queue_client::wake_all() {
  wake_followers();
  if (led_) (void)::eventfd_write(nudge_.get(), 1);
}

void queue_client::check_soft_limit(lock& held) {
  // What is registered for that moment may use this queue.
  struct relock {
    lock* held;
    ~relock() { held->lock(); }
  };
  held.unlock();
  const relock behind{&held};
  this_task::checkpoint();
}

/// Before another try to send.
void queue_client::wait_to_send(int fd, bool for_room, deadline until) {
  if (on_loop_thread() && ends_.here) return ends_.here->turn();
  std::array<pollfd, 2> what{{{for_room ? fd : -1, POLLOUT, 0}, {ends_.host_pidfd, POLLIN, 0}}};
  // What has no event to wait for passes soon.
  const deadline soon =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(for_room ? 1000 : 1);
  const timespec left = until_then(until ? std::min(until, soon) : soon);
  ::ppoll(what.data(), what.size(), &left, nullptr);
  if (what[1].revents && broken_.empty()) broken_ = why_gone();
  expect_usable();
  // What is on its way is half written: no other thread may find it so, and what is registered for
  // that moment may use this queue.
  if (soft_limit_is_due()) throw interrupted{};
}

void queue_client::pass_on(const interrupted&) {
  this_task::checkpoint();
  throw process_error("a soft time limit interrupted the use of a queue");
}

/// Receives what there is. `leading`: nobody else sleeps on the channel.
void queue_client::receive_all(bool leading) {
  message received;
  bool answered = false;
  for (;;) {
    const std::error_code error = channel_.receive(received);
    if (error == channel_errc::oversized) continue;
    if (error && error != channel_errc::descriptors_lost) {
      if (error != std::errc::operation_would_block && broken_.empty()) {
        broken_ = why_gone();
        answered = true;
      }
      break;
    }
    const auto told = serialization::unpack_queue_message(received.bytes);
    if (!told) continue;
    if (told->kind == kind::descriptors) {
      keep_descriptors(*told, received);
    } else if (told->kind == kind::reply) {
      if (auto asked = answers_.find(told->id); asked != answers_.end()) {
        asked->second = told->value;
        answered = true;
      }
    }
  }
  // Who leads sleeps on a channel that is empty now.
  if (answered && !leading) wake_all();
}

void queue_client::keep_descriptors(const serialization::queue_message& told, message& received) {
  // Those that were lost on the way are missed when the item is unpacked.
  if (told.tickets.size() != received.fds.size()) return;
  kept& all = kept_[told.id];
  for (std::size_t i = 0; i < told.tickets.size(); ++i) {
    if (told.tickets[i] == serialization::payload_ticket)
      all.memory = std::move(received.fds[i]);
    else
      all.descriptors.adopt(told.tickets[i], received.fds[i].release());
  }
}

}  // namespace carom::runtime

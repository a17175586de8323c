// SPDX-License-Identifier: BSL-1.0
#include <unistd.h>

#include <carom/errors.hpp>
#include <vector>

#include "runtime/queue_item.hpp"
#include "runtime/queue_memory.hpp"
#include "runtime/queue_wait.hpp"

// How a process puts items into a queue.
namespace carom::runtime {

using detail::queue_wait;
using serialization::pack_queue_message;
using serialization::queue_message;

/// An item on its way into the ring.
struct queue_client::outgoing {
  queue_client* self;
  const detail::blob* item;
  result_frame frame{};
  bool ahead = false;  // has what goes ahead of it
  bool sent = false;   // that has been sent

  outgoing(queue_client* by, const detail::blob& what) : self(by), item(&what) {
    if (what.segment() || what.size() > largest_inline) {
      frame.flags |= flag_segment;
      frame.length = what.size();
    } else {
      frame.payload = what.bytes();
    }
    if (what.has_descriptors()) frame.flags |= flag_descriptors;
    ahead = frame.flags != 0;
    if (ahead) frame.first = ++self->last_key_;
  }
  ~outgoing() {
    if (sent)
      (void)self->channel_.send(pack_queue_message({.kind = kind::forget, .id = frame.first}));
  }
};

queue_client::put_outcome queue_client::try_put(outgoing& what) {
  if (put_word::of(page_->puts.load(std::memory_order_acquire)).left() == 0)
    return put_outcome::no_room;
  if (!puts_.write(what.frame)) return put_outcome::ring_full;
  if (what.ahead && !what.sent) {
    try {
      send_ahead(what);
    } catch (...) {
      puts_.take_back();
      throw;
    }
  }
  if (!commit()) {
    puts_.take_back();
    return put_outcome::no_room;
  }
  what.sent = false;  // it has gone
  ++position_;
  ring_host();
  return put_outcome::put;
}

/// Shows the host the item that was written, unless the host has taken the room back.
bool queue_client::commit() {
  std::uint64_t found = page_->puts.load(std::memory_order_acquire);
  for (;;) {
    const put_word now = put_word::of(found);
    if (now.left() == 0) return false;
    if (page_->puts.compare_exchange_weak(found, put_word{now.tail + 1, now.limit}.word(),
                                          std::memory_order_seq_cst))
      return true;
  }
}

void queue_client::send_ahead(outgoing& what) {
  std::vector<detail::descriptor_list::entry> all;
  if (what.item->has_descriptors())
    all.assign(what.item->find_descriptors()->entries().begin(),
               what.item->find_descriptors()->entries().end());
  unique_fd copied;
  if (what.frame.flags & flag_segment) {
    int memory = -1;
    if (what.item->segment()) {
      memory = queue_memory::descriptor(what.item->segment());
    } else {
      copied = copy_out(what.item->bytes());
      memory = copied.get();
    }
    all.push_back({serialization::payload_ticket, memory});
  }
  what.sent = true;
  for (std::size_t at = 0; at < all.size(); at += channel::max_fds) {
    queue_message told{.kind = kind::descriptors, .id = what.frame.first};
    std::vector<int> fds;
    for (std::size_t i = at; i < std::min(all.size(), at + channel::max_fds); ++i) {
      told.tickets.push_back(all[i].ticket);
      fds.push_back(all[i].fd);
    }
    send(told, fds);
  }
}

bool queue_client::put(const detail::blob& item, const queue_wait& until) try {
  lock held = enter();
  expect_open();
  check_host();
  outgoing what(this, item);
  put_outcome last = put_outcome::put;
  const auto ready = [&] {
    expect_open();
    expect_usable();
    last = try_put(what);
    return last == put_outcome::put;
  };
  const bool now = at_once(until);
  deadline answered = now ? patience_of_look() : patience();
  if (!now) {
    if (wait(held, deadline_of(until), ends_.maxsize ? &page_->room_wants : nullptr, false, ready))
      return true;
    answered = last_patience();
  }
  while (!ready()) {
    if (last == put_outcome::no_room) {
      if (request(held, kind::room, answered, true).value_or(0) == 0) return false;
      continue;
    }
    if (!now) return false;
    // That the ring is full says nothing of the queue.
    const bool moved = wait(held, answered, nullptr, true,
                            [&] { return ready() || last == put_outcome::no_room; });
    if (moved && last == put_outcome::put) return true;
    if (!moved) return false;
  }
  return true;
} catch (const interrupted& by) {
  pass_on(by);
}

}  // namespace carom::runtime

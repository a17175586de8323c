// SPDX-License-Identifier: BSL-1.0
#include "runtime/queue_link.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace carom::runtime {

using serialization::pack_queue_message;
using serialization::queue_message;
using serialization::queue_message_kind;

namespace {

/// A client that sends more than these is not one of ours.
constexpr std::size_t most_put_off = 4096;
constexpr std::size_t most_kept = ring_slots * detail::descriptor_list::most;
static_assert(serialization::most_queue_tickets == channel::max_fds);
/// A client that does not read so many answers reads none.
constexpr std::size_t most_unsent = 4096;

mapping map_page(const unique_fd& page) {
  if (!is_sealed_memory(page.get(), sizeof(queue_page)))
    throw std::system_error(std::make_error_code(std::errc::invalid_argument), "a queue's page");
  return {page.get(), sizeof(queue_page), mapping::access::read_write};
}

void expect_seqpacket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET)
    throw std::system_error(std::make_error_code(std::errc::not_a_socket), "a queue's channel");
}

}  // namespace

queue_link::queue_link(unique_fd page, unique_fd channel, unique_fd pidfd, bool bounded)
    : channel_(std::move(channel)),
      pidfd_(std::move(pidfd)),
      memory_(map_page(page)),
      page_(reinterpret_cast<queue_page*>(memory_.data())),
      tasks_(page_->rings),
      puts_(page_->rings),
      bounded_(bounded),
      limit_(bounded ? 0 : unbounded_grant) {
  expect_seqpacket(channel_.fd());
  if (page_->magic != queue_page_magic)
    throw std::system_error(std::make_error_code(std::errc::invalid_argument), "a queue's page");
}

// --- what it puts --------------------------------------------------------------------------------

std::uint32_t queue_link::puts_waiting() {
  if (corrupt_) return 0;
  const put_word now = put_word::of(page_->puts.load(std::memory_order_acquire));
  const std::uint32_t count = now.tail - taken_in_;
  // Each in its own right: the limit is the host's, the tail stays within it and within the ring.
  if (now.limit != limit_ || limit_ - now.tail > unbounded_grant || count > ring_slots) {
    break_rules("its count of items cannot be");
    return 0;
  }
  return count;
}

bool queue_link::take_in(queue_item& into) {
  result_frame frame;
  if (!puts_.peek(unreleased_, frame)) {
    break_rules("it put an item that cannot be");
    return false;
  }
  const bool large = frame.flags & flag_segment;
  // Descriptors went ahead on the channel.
  if (large || frame.flags & flag_descriptors) {
    if (!take_kept(frame.first, into)) return false;
    if (large) {
      into.large = true;
      into.length = frame.length;
      if (into.memory && !is_sealed_memory(into.memory.get(), frame.length)) {
        break_rules("it put an item whose memory is not there");
        return false;
      }
      if (!into.memory) into.length = 0;  // lost: whoever unpacks it misses its bytes
    }
  }
  if (!large && frame.payload.size() > largest_inline) {
    break_rules("it put an item that is too large for the ring");
    return false;
  }
  try {
    if (!large) into.bytes.assign(frame.payload);
  } catch (const std::exception&) {
    break_rules("there is no memory for its item");
    return false;
  }
  ++taken_in_;
  ++unreleased_;
  return true;
}

void queue_link::release_puts() {
  if (unreleased_ == 0) return;
  puts_.release(std::exchange(unreleased_, 0));
  stirred_ = true;
  if (!bounded_ && room() < unbounded_grant / 2) grant(unbounded_grant - room());
}

template <class F>
bool queue_link::change_puts(F f) {
  std::uint64_t found = page_->puts.load(std::memory_order_acquire);
  // A client puts once between two tries at most, and no client of ours does so a thousand times.
  for (int tries = 0; tries < 1000; ++tries) {
    const put_word now = put_word::of(found);
    if (now.limit != limit_ || limit_ - now.tail > unbounded_grant) break;
    const put_word wanted{now.tail, f(now)};
    if (page_->puts.compare_exchange_weak(found, wanted.word(), std::memory_order_seq_cst)) {
      limit_ = wanted.limit;
      return true;
    }
  }
  break_rules("its count of items cannot be");
  return false;
}

void queue_link::grant(std::uint64_t count) {
  change_puts([&](put_word now) { return now.limit + static_cast<std::uint32_t>(count); });
  stirred_ = true;
}

void queue_link::withdraw(std::uint64_t keep) {
  change_puts([&](put_word now) {
    return now.left() <= keep ? now.limit : now.tail + static_cast<std::uint32_t>(keep);
  });
  stirred_ = true;
}

// --- what it gets --------------------------------------------------------------------------------

std::uint64_t queue_link::taken_before() { return told_taken_ = look_taken(); }

std::uint64_t queue_link::look_taken() {
  if (corrupt_) return tasks_.head();
  if (!tasks_.refresh()) {
    break_rules("its count of items taken cannot be");
    return tasks_.head();
  }
  const std::uint64_t head = tasks_.head();
  if (head == tasks_.tail()) return head;
  // Taken, but not left yet.
  const claim_state first = tasks_.look(head).state;
  return first == claim_state::queued || first == claim_state::revoked ? head : head + 1;
}

std::optional<std::uint64_t> queue_link::deliver(const queue_item& item) {
  if (!can_hear()) return std::nullopt;
  task_frame frame{.task_id = delivered_};
  unique_fd made;
  int memory = item.memory.get();
  if (item.large) {
    frame.flags |= flag_segment;
    frame.length = item.memory ? item.length : item.bytes.size();
    if (memory < 0 && !item.bytes.empty()) {
      try {
        made = copy_out(item.bytes.bytes());
      } catch (const std::exception&) {
        return std::nullopt;
      }
      memory = made.get();
    }
  } else {
    frame.payload = item.bytes.bytes();
  }
  if (!item.descriptors.empty()) frame.flags |= flag_descriptors;
  if (frame.payload.size() > largest_inline) return std::nullopt;
  const auto position = tasks_.write(frame);
  if (!position) return std::nullopt;
  ++delivered_;
  stirred_ = true;
  if (item.plain() || send_all(frame.task_id, item, memory)) return position;
  tasks_.revoke(*position);  // not shown yet: the client skips it
  return std::nullopt;
}

/// False if some could not be sent; what was is dropped by the client with the frame.
bool queue_link::send_all(std::uint64_t key, const queue_item& item, int memory) {
  std::vector<detail::descriptor_list::entry> all(item.descriptors.entries().begin(),
                                                  item.descriptors.entries().end());
  if (memory >= 0) all.push_back({serialization::payload_ticket, memory});
  for (std::size_t at = 0; at < all.size(); at += channel::max_fds) {
    queue_message told{.kind = queue_message_kind::descriptors, .id = key};
    std::vector<int> fds;
    for (std::size_t i = at; i < std::min(all.size(), at + channel::max_fds); ++i) {
      told.tickets.push_back(all[i].ticket);
      fds.push_back(all[i].fd);
    }
    if (channel_.send(pack_queue_message(told), fds)) return false;
  }
  return true;
}

// --- what it wants -------------------------------------------------------------------------------

queue_link::wants queue_link::look() {
  const std::uint64_t items = page_->item_wants.load(std::memory_order_acquire);
  const std::uint64_t room = page_->room_wants.load(std::memory_order_acquire);
  const wants now{demand_word::of(items), demand_word::of(room),
                  demand_word::of(items).beat != demand_word::of(seen_items_).beat,
                  demand_word::of(room).beat != demand_word::of(seen_room_).beat};
  seen_items_ = items;
  seen_room_ = room;
  return now;
}

void queue_link::publish() {
  if (!std::exchange(stirred_, false)) return;
  page_->host_turn.fetch_add(1, std::memory_order_seq_cst);
  if (tasks_.publish()) send(pack_queue_message({.kind = queue_message_kind::wake}));
}

bool queue_link::arm(bool takes) {
  auto& armed = page_->rings.header.host_armed;
  armed.store(1, std::memory_order_seq_cst);
  if (takes) page_->takes_armed.store(1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const bool quiet =
      corrupt_ || (put_word::of(page_->puts.load(std::memory_order_seq_cst)).tail == taken_in_ &&
                   page_->item_wants.load(std::memory_order_seq_cst) == seen_items_ &&
                   page_->room_wants.load(std::memory_order_seq_cst) == seen_room_ &&
                   (!takes || look_taken() == told_taken_));
  if (!quiet) armed.store(0, std::memory_order_relaxed);
  return quiet;
}

// --- messages ------------------------------------------------------------------------------------

bool queue_link::receive_one() {
  message received;
  const std::error_code error = channel_.receive(received);
  if (error == channel_errc::oversized) {
    break_rules("it sent a message that no client sends");
    return true;
  }
  if (error && error != channel_errc::descriptors_lost) {
    if (error != std::errc::operation_would_block) ended_ = true;
    return false;
  }
  auto told = serialization::unpack_queue_message(received.bytes);
  if (!told) {
    break_rules("it sent a message that no client sends");
  } else if (told->kind == queue_message_kind::descriptors) {
    if (!keep_descriptors(*told, received))
      break_rules("it sent descriptors that nobody can have sent");
  } else if (put_off_.size() >= most_put_off) {
    break_rules("it sent more messages than any client does");
  } else {
    put_off_.push_back(std::move(*told));
  }
  return true;
}

bool queue_link::keep_descriptors(const queue_message& told, message& received) {
  if (told.tickets.size() > channel::max_fds || kept_count_ + received.fds.size() > most_kept ||
      kept_.size() > most_kept)
    return false;
  kept& all = kept_[told.id];
  // Lost on the way: this process has no free ones.
  if (received.fds.size() != told.tickets.size()) return received.fds.empty();
  for (std::size_t i = 0; i < told.tickets.size(); ++i) {
    if (told.tickets[i] == serialization::payload_ticket)
      all.memory = std::move(received.fds[i]);
    else
      all.descriptors.adopt(told.tickets[i], received.fds[i].release());
  }
  kept_count_ += told.tickets.size();
  all.count += told.tickets.size();
  return true;
}

bool queue_link::take_kept(std::uint64_t key, queue_item& into) {
  // Sent before the item was put: they are there, or in the channel.
  while (!corrupt_ && receive_one()) {
  }
  const auto found = kept_.find(key);
  if (found == kept_.end()) {
    break_rules("it put an item whose descriptors it has not sent");
    return false;
  }
  kept_count_ -= found->second.count;
  into.memory = std::move(found->second.memory);
  into.descriptors = std::move(found->second.descriptors);
  kept_.erase(found);
  return true;
}

void queue_link::forget(std::uint64_t key) {
  const auto found = kept_.find(key);
  if (found == kept_.end()) return;
  kept_count_ -= found->second.count;
  kept_.erase(found);
}

std::optional<queue_message> queue_link::receive() {
  while (put_off_.empty() && !corrupt_ && !ended_ && receive_one()) {
  }
  if (put_off_.empty()) return std::nullopt;
  queue_message first = std::move(put_off_.front());
  put_off_.pop_front();
  if (first.kind == queue_message_kind::forget) forget(first.id);
  return first;
}

void queue_link::reply(std::uint64_t id, std::uint64_t value) {
  send(pack_queue_message({.kind = queue_message_kind::reply, .id = id, .value = value}));
}

bool queue_link::send(std::vector<std::byte> bytes, std::span<const int> fds) {
  // A full channel wakes without another bell.
  const bool bell = bytes.size() == 1;
  if (unsent_.empty()) {
    const std::error_code error = channel_.send(bytes, fds);
    if (error != std::errc::operation_would_block && error != std::errc::no_buffer_space &&
        error != std::errc::not_enough_memory)
      return true;  // a client that is gone is found to be
  }
  if (bell) return true;
  if (unsent_.size() >= most_unsent) {
    break_rules("it reads none of its answers");
    return false;
  }
  unsent_.push_back(std::move(bytes));
  return true;
}

void queue_link::flush() {
  while (!unsent_.empty()) {
    const std::error_code error = channel_.send(unsent_.front());
    if (error == std::errc::operation_would_block || error == std::errc::no_buffer_space ||
        error == std::errc::not_enough_memory)
      return;
    unsent_.pop_front();
  }
}

}  // namespace carom::runtime

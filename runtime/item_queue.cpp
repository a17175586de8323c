// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <bit>
#include <carom/detail/item_queue.hpp>
#include <carom/errors.hpp>
#include <new>
#include <stdexcept>
#include <string>

#include "runtime/item_memory.hpp"
#include "runtime/item_rights.hpp"
#include "runtime/item_ring.hpp"
#include "runtime/item_waits.hpp"
#include "runtime/shared_mapping.hpp"

namespace carom::detail {

using namespace runtime;

namespace {

constexpr std::size_t most_capacity = std::size_t{1} << 40;

[[noreturn]] void throw_closed(const char* doing) {
  throw process_error(std::string(doing) + " on a closed queue: close() was called on it");
}
[[noreturn]] void throw_corrupt_queue() {
  throw process_error(
      "a queue's shared memory is corrupt: another process has written over it; make a new queue");
}

/// An item on its way into the ring.
struct outgoing {
  frame_kind kind = frame_kind::plain;
  std::span<const std::byte> bytes;  // while they are not in `body`
  std::uint64_t size = 0;
  unique_fd body{};
  const descriptor_list* descriptors = nullptr;

  std::size_t frame_content() const noexcept {
    if (kind == frame_kind::plain) return size;
    return kind == frame_kind::with_descriptors ? 8 + size : 16;
  }
};

/// Larger items travel in memory of their own. A frame's size has 32 bits.
std::uint64_t largest_plain(std::uint64_t capacity) {
  return std::min(capacity / 4, std::uint64_t{1} << 30);
}

}  // namespace

void throw_no_room() {
  throw queue_full("the queue has no room: its capacity is in use; take items out, or wait longer");
}

struct item_queue::body {
  body(shared_mapping from, std::uint64_t capacity, item_rights sockets)
      : memory(std::move(from)),
        ring(memory.data(), capacity),
        rights(std::move(sockets)),
        large(largest_plain(capacity)) {}

  bool put(outgoing& item, patience time);
  bool get(blob& into, patience time);
  item_ring::put_result append(outgoing& item, std::uint64_t& head);
  item_ring::put_result append_with_descriptors(outgoing& item, std::uint64_t& head);
  item_ring::get_result take(blob& into, unique_fd& body, std::uint64_t& size, std::uint64_t& tail);
  void drop_orphans();
  [[noreturn]] void fail_corrupt();

  moving_place put_side() noexcept { return {ring.header().tail, ring.header().getters_wait}; }
  moving_place get_side() noexcept { return {ring.header().head, ring.header().putters_wait}; }

  shared_mapping memory;
  item_ring ring;
  item_rights rights;
  item_memory large;
};

void item_queue::body::fail_corrupt() {
  ring.header().state.store(ring_state::corrupt, std::memory_order_release);
  put_side().notify_all();
  get_side().notify_all();
  throw_corrupt_queue();
}

/// Under the put lock: drops messages whose producers died before they published their frames. The
/// oldest frame that names a message tells which are still needed.
void item_queue::body::drop_orphans() {
  const robust_guard guard(ring.header().get_lock);
  item_ring::frame frame;
  std::uint64_t tail = 0;
  auto result = ring.front(frame, tail);
  tail = ring.header().tail.load(std::memory_order_relaxed);
  while (result == item_ring::get_result::done) {
    if (frame.kind != frame_kind::plain) {
      std::uint64_t serial = 0;
      ring.copy_out(frame, 0, std::as_writable_bytes(std::span(&serial, 1)));
      rights.drop_below(serial);
      return;
    }
    const std::uint64_t next = item_ring::next(frame);
    if (next == tail) break;
    result = tail - next <= ring.capacity() ? ring.frame_at(next, tail, frame)
                                            : item_ring::get_result::corrupt;
  }
  if (result == item_ring::get_result::corrupt) fail_corrupt();
  rights.drop_below(~std::uint64_t{0});
}

item_ring::put_result item_queue::body::append(outgoing& item, std::uint64_t& head) {
  const auto result = ring.room(item.frame_content(), head);
  if (result != item_ring::put_result::done) return result;
  if (item.kind != frame_kind::plain) return append_with_descriptors(item, head);
  ring.put(frame_kind::plain, {}, item.bytes);
  return result;
}

item_ring::put_result item_queue::body::append_with_descriptors(outgoing& item,
                                                                std::uint64_t& head) {
  auto& last = ring.header().serial;
  // Stored before the message is sent: a number is never used twice.
  const std::uint64_t serial = last.load(std::memory_order_relaxed) + 1;
  last.store(serial, std::memory_order_release);
  const auto send = [&] { return rights.send(serial, item.body.get(), item.descriptors); };
  auto sent = send();
  if (sent == item_rights::send_result::full) {
    drop_orphans();
    // Before the try: consumers may take all that is there right behind it.
    head = ring.header().head.load(std::memory_order_acquire);
    sent = send();
  }
  if (sent == item_rights::send_result::full) {
    if (head != ring.header().tail.load(std::memory_order_relaxed))
      return item_ring::put_result::full;
    throw process_error(
        "the descriptors of an item cannot be sent: too many of this user's are on their way "
        "(RLIMIT_NOFILE)");
  }
  const std::uint64_t words[2] = {serial, item.size};
  const auto first = std::as_bytes(std::span(words));
  if (item.kind == frame_kind::with_descriptors)
    ring.put(item.kind, first.first(8), item.bytes);
  else
    ring.put(item.kind, first, {});
  return item_ring::put_result::done;
}

bool item_queue::body::put(outgoing& item, patience time) {
  auto& header = ring.header();
  for (waiter call(time);;) {
    std::uint64_t head = 0;
    auto result = item_ring::put_result::full;
    bool more_room = false;
    {
      const side_guard guard(header.put_lock, call);
      if (!guard.held()) return false;
      switch (header.state.load(std::memory_order_acquire)) {
        case ring_state::open: break;
        case ring_state::closed: throw_closed("put");
        default: throw_corrupt_queue();
      }
      if (guard.abandoned()) drop_orphans();
      result = append(item, head);
      if (result == item_ring::put_result::corrupt) fail_corrupt();
      // One who slept was woken for room that others, who still sleep, may use too.
      if (call.slept() && result == item_ring::put_result::done)
        more_room = ring.room(0, head) == item_ring::put_result::done;
    }
    if (result == item_ring::put_result::done) {
      put_side().notify_one();
      if (more_room) get_side().notify_one();
      return true;
    }
    if (!call.wait(get_side(), head, header.state)) return false;
  }
}

/// Under the get lock: moves the oldest item out.
item_ring::get_result item_queue::body::take(blob& into, unique_fd& body, std::uint64_t& size,
                                             std::uint64_t& tail) {
  item_ring::frame frame;
  const auto result = ring.front(frame, tail);
  if (result != item_ring::get_result::done) return result;
  std::size_t before = 0;
  std::optional<item_rights::message> carried;
  if (frame.kind != frame_kind::plain) {
    std::uint64_t words[2] = {};
    before = frame.kind == frame_kind::with_descriptors ? 8 : 16;
    ring.copy_out(frame, 0, std::as_writable_bytes(std::span(words)).first(before));
    size = words[1];
    carried = rights.peek(words[0]);
    if (carried) body = std::move(carried->body);
    if (carried && !carried->others.empty()) into.descriptors().merge(std::move(carried->others));
  }
  into.resize_uninitialized(frame.size - before);
  ring.copy_out(frame, before, {into.data(), into.size()});
  ring.pop(frame);
  // After the item: who dies here leaves a message that the next one drops.
  if (carried) rights.drop();
  return result;
}

bool item_queue::body::get(blob& into, patience time) {
  auto& header = ring.header();
  for (waiter call(time);;) {
    std::uint64_t tail = 0, size = 0;
    unique_fd own_memory;
    auto result = item_ring::get_result::empty;
    {
      const side_guard guard(header.get_lock, call);
      if (!guard.held()) return false;
      // Read before the tail: nothing is put any more once it says closed.
      const ring_state state = header.state.load(std::memory_order_acquire);
      if (state != ring_state::open && state != ring_state::closed) throw_corrupt_queue();
      result = take(into, own_memory, size, tail);
      if (result == item_ring::get_result::corrupt) fail_corrupt();
      if (result == item_ring::get_result::empty && state == ring_state::closed)
        throw_closed("get");
    }
    if (result == item_ring::get_result::done) {
      get_side().notify_one();
      // One who slept was woken for an item; others, who still sleep, may take the next.
      if (call.slept() && !ring.empty()) put_side().notify_one();
      if (size != 0) item_memory::attach(into, std::move(own_memory), size);
      return true;
    }
    if (!call.wait(put_side(), tail, header.state)) return false;
  }
}

item_queue::item_queue(std::unique_ptr<body> made) : body_(std::move(made)) {}
item_queue::~item_queue() = default;

std::shared_ptr<item_queue> item_queue::make(std::size_t capacity) {
  if (capacity == 0) throw std::invalid_argument("a queue's capacity is 0; it needs some bytes");
  if (capacity > most_capacity)
    throw std::invalid_argument("a queue's capacity is more than 1 TiB");
  const std::size_t rounded = std::bit_ceil(std::max(capacity, item_ring::least_capacity));
  shared_mapping memory = shared_mapping::make("queue", item_ring::header_size + rounded);
  auto* const header = ::new (memory.data()) item_ring_header;
  header->capacity = rounded;
  return std::shared_ptr<item_queue>(
      new item_queue(std::make_unique<body>(std::move(memory), rounded, item_rights::make())));
}

std::shared_ptr<item_queue> item_queue::unpack(byte_reader& in) {
  shared_mapping memory = shared_mapping::adopt(unique_fd(in.get_descriptor()),
                                                item_ring::header_size + item_ring::least_capacity);
  unique_fd first(in.get_descriptor()), second(in.get_descriptor());
  const auto& header = *reinterpret_cast<const item_ring_header*>(memory.data());
  const std::uint64_t capacity = memory.size() - item_ring::header_size;
  if (header.magic != item_ring_header::expected_magic || !std::has_single_bit(capacity))
    throw encoding_error("a descriptor that should be a queue's memory is none");
  return std::shared_ptr<item_queue>(new item_queue(std::make_unique<body>(
      std::move(memory), capacity, item_rights(std::move(first), std::move(second)))));
}

void item_queue::pack(byte_writer& out) const {
  out.put_descriptor(body_->memory.fd());
  out.put_descriptor(body_->rights.in());
  out.put_descriptor(body_->rights.out());
}

blob item_queue::start_item() const { return blob(&body_->large); }

bool item_queue::put(blob& item, patience time) {
  outgoing out{.bytes = item.bytes(), .size = item.size()};
  if (item.has_descriptors()) [[unlikely]] {
    if (item.descriptor_count() > item_rights::most)
      throw encoding_error("an item carries " + std::to_string(item.descriptor_count()) +
                           " descriptors; " + std::to_string(item_rights::most) +
                           " is the most for a simple_queue");
    out.kind = frame_kind::with_descriptors;
    out.descriptors = item.find_descriptors();
  }
  if (item.size() > largest_plain(body_->ring.capacity())) {
    out.kind = frame_kind::in_memory_of_its_own;
    out.body = body_->large.detach(item);
    out.bytes = {};
  }
  return body_->put(out, time);
}

bool item_queue::put_bytes(std::span<const std::byte> bytes, patience time) {
  outgoing out{.bytes = bytes, .size = bytes.size()};
  if (bytes.size() > largest_plain(body_->ring.capacity())) {
    out.kind = frame_kind::in_memory_of_its_own;
    out.body = item_memory::copy(bytes);
  }
  return body_->put(out, time);
}

bool item_queue::get(blob& into, patience time) { return body_->get(into, time); }

bool item_queue::empty() const { return body_->ring.empty(); }

void item_queue::close() {
  auto& header = body_->ring.header();
  {
    // Nothing is put any more once the state has changed.
    const robust_guard guard(header.put_lock);
    if (guard.abandoned()) body_->drop_orphans();
    auto open = ring_state::open;
    header.state.compare_exchange_strong(open, ring_state::closed, std::memory_order_acq_rel);
  }
  body_->put_side().notify_all();
  body_->get_side().notify_all();
}

bool item_queue::closed() const noexcept {
  return body_->ring.header().state.load(std::memory_order_acquire) != ring_state::open;
}

std::size_t item_queue::capacity() const noexcept {
  return static_cast<std::size_t>(body_->ring.capacity());
}

}  // namespace carom::detail

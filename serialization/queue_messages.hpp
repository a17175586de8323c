// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// The messages between a queue's host and one of its clients, beside the shared page. Each is one
/// datagram.
namespace carom::serialization {

/// As many descriptors as a message of a channel may have.
inline constexpr std::size_t most_queue_tickets = 128;

enum class queue_message_kind : std::uint8_t {
  // client to the door
  knock = 1,  // descriptors: the page, the host's end of a channel, the client's pidfd
  // host to client
  wake,   // look at the page
  reply,  // to the request `id`: `value`
  // either way
  descriptors,  // what goes with the item of key `id`, ahead of its frame; names in `tickets`
  // client to host
  look,       // a bell
  leave,      // the client is closed
  forget,     // the item of key `id` will not come; or the request `id` does not matter any more
  size,       // requests: how many items there are
  take,       // whether an item has been delivered now
  room,       // whether there is room for one item now
  done,       // an item's work is done; whether one was under way
  join,       // answered when no item's work is under way
  unfinished  // how many items' work is under way
};

/// Names the memory that holds a large payload among an item's descriptors.
inline constexpr std::uint64_t payload_ticket = 0;

struct queue_message {
  queue_message_kind kind = queue_message_kind::look;
  std::uint64_t id = 0;
  std::uint64_t value = 0;
  std::vector<std::uint64_t> tickets{};
};

/// Bells are one byte; the others are whole.
std::vector<std::byte> pack_queue_message(const queue_message& message);
/// Nothing if no such message can have been sent.
std::optional<queue_message> unpack_queue_message(std::span<const std::byte> bytes);

}  // namespace carom::serialization

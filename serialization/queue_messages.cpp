// SPDX-License-Identifier: BSL-1.0
#include "serialization/queue_messages.hpp"

#include <cstring>

namespace carom::serialization {
namespace {

constexpr std::size_t header_bytes = 1 + 2 * sizeof(std::uint64_t);

bool is_bell(queue_message_kind kind) {
  return kind == queue_message_kind::wake || kind == queue_message_kind::look;
}

}  // namespace

std::vector<std::byte> pack_queue_message(const queue_message& message) {
  if (is_bell(message.kind)) return {static_cast<std::byte>(message.kind)};
  std::vector<std::byte> bytes(header_bytes + message.tickets.size() * sizeof(std::uint64_t));
  bytes[0] = static_cast<std::byte>(message.kind);
  std::memcpy(&bytes[1], &message.id, sizeof message.id);
  std::memcpy(&bytes[1 + sizeof message.id], &message.value, sizeof message.value);
  if (!message.tickets.empty())
    std::memcpy(&bytes[header_bytes], message.tickets.data(), bytes.size() - header_bytes);
  return bytes;
}

std::optional<queue_message> unpack_queue_message(std::span<const std::byte> bytes) {
  if (bytes.empty()) return std::nullopt;
  const auto kind = std::to_integer<std::uint8_t>(bytes[0]);
  if (kind < static_cast<std::uint8_t>(queue_message_kind::knock) ||
      kind > static_cast<std::uint8_t>(queue_message_kind::unfinished))
    return std::nullopt;
  queue_message message{.kind = static_cast<queue_message_kind>(kind)};
  if (is_bell(message.kind))
    return bytes.size() == 1 ? std::optional(std::move(message)) : std::nullopt;
  if (bytes.size() < header_bytes) return std::nullopt;
  const std::size_t rest = bytes.size() - header_bytes;
  if (rest % sizeof(std::uint64_t) != 0 || rest / sizeof(std::uint64_t) > most_queue_tickets)
    return std::nullopt;
  std::memcpy(&message.id, &bytes[1], sizeof message.id);
  std::memcpy(&message.value, &bytes[1 + sizeof message.id], sizeof message.value);
  message.tickets.resize(rest / sizeof(std::uint64_t));
  if (rest != 0) std::memcpy(message.tickets.data(), &bytes[header_bytes], rest);
  return message;
}

}  // namespace carom::serialization

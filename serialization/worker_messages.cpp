// SPDX-License-Identifier: BSL-1.0
#include "serialization/worker_messages.hpp"

#include <carom/detail/start_path.hpp>

namespace carom::serialization {

CAROM_START_PATH std::vector<std::byte> pack_message(worker_message_kind kind) {
  return {static_cast<std::byte>(kind)};
}

CAROM_START_PATH std::optional<worker_message_kind> kind_of(std::span<const std::byte> message) {
  if (message.empty()) return std::nullopt;
  const auto kind = static_cast<worker_message_kind>(message[0]);
  switch (kind) {
    case worker_message_kind::setup:
    case worker_message_kind::tasks:
    case worker_message_kind::segment:
    case worker_message_kind::forget:
    case worker_message_kind::module:
    case worker_message_kind::leave:
    case worker_message_kind::exec:
    case worker_message_kind::process:
    case worker_message_kind::descriptors:
    case worker_message_kind::results:
    case worker_message_kind::ready:
    case worker_message_kind::start_failed:
    case worker_message_kind::need_segment:
    case worker_message_kind::dropped:
    case worker_message_kind::logged: return kind;
  }
  return std::nullopt;
}

}  // namespace carom::serialization

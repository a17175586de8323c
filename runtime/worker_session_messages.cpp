// SPDX-License-Identifier: BSL-1.0
// What a worker and its host tell each other beside the rings.
#include <carom/detail/start_path.hpp>
#include <utility>

#include "runtime/modules.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/worker_session.hpp"

namespace carom::runtime {

using namespace serialization;

/// Any thread. A host that is behind with reading is not waited for.
bool worker_session::forward_log(int level, std::string_view text) noexcept {
  try {
    const log_message told{level, std::string(text.substr(0, log_message::most_text))};
    return !channel_.send(pack_message(worker_message_kind::logged, told));
  } catch (const std::exception&) {
    return false;
  }
}

CAROM_START_PATH worker_message_kind worker_session::receive_one() {
  message received;
  for (;;) {
    const std::error_code error = channel_.receive(received, true);
    // What the message says counts; what came with it is missed by what it is for.
    if (!error || error == channel_errc::descriptors_lost) break;
    if (error == channel_errc::end_of_file) {
      end_children();  // nobody is left to work for, nor to end what this worker has started
      leave(1);
    }
    if (error != std::errc::interrupted && error != channel_errc::oversized) leave(1);
  }
  const auto kind = kind_of(received.bytes);
  if (!kind) leave(1);
  if (*kind == worker_message_kind::tasks) return *kind;
  ++messages_seen_;
  try {
    switch (*kind) {
      case worker_message_kind::segment: {
        const auto told = unpack_message<segment_message>(received.bytes);
        const bool granted =
            told.ticket != 0 && !received.fds.empty() && segments_.add(told, received.fds[0]);
        // The host must not count on it.
        if (told.ticket != 0 && !granted) dropped(told.ticket);
        if (told.writable || told.ticket == 0) last_segment_ = granted ? told.ticket : 0;
        break;
      }
      case worker_message_kind::forget:
        segments_.forget(unpack_message<ticket_message>(received.bytes).ticket);
        break;
      case worker_message_kind::module: {
        auto record = unpack_message<module_record>(received.bytes);
        add_peer_module({std::move(record.build_id), std::move(record.path)});
        break;
      }
      case worker_message_kind::descriptors: {
        const auto told = unpack_message<descriptors_message>(received.bytes);
        // Those that were lost on the way are missed when the arguments are unpacked.
        if (told.tickets.size() != received.fds.size()) break;
        auto& list = descriptors_[told.key];
        for (std::size_t i = 0; i < told.tickets.size(); ++i)
          list.adopt(told.tickets[i], received.fds[i].release());
        break;
      }
      case worker_message_kind::leave: leaving_ = true; break;
      default: leave(1);
    }
  } catch (const std::exception&) {
    leave(1);
  }
  return *kind;
}

CAROM_START_PATH void worker_session::read_waiting_messages() {
  while (messages_wait()) receive_one();
}

CAROM_START_PATH bool worker_session::messages_wait() const noexcept {
  // Counted after it is sent: a message may be seen before it is counted.
  const std::uint32_t sent = page_->header.control_count.load(std::memory_order_seq_cst);
  return static_cast<std::int32_t>(sent - messages_seen_) > 0;
}

std::uint64_t worker_session::need_segment(std::uint64_t bytes) {
  send(pack_message(worker_message_kind::need_segment, need_segment_message{bytes}));
  last_segment_ = UINT64_MAX;
  while (last_segment_ == UINT64_MAX) receive_one();
  return last_segment_;
}

void worker_session::dropped(std::uint64_t ticket) {
  send(pack_message(worker_message_kind::dropped, ticket_message{ticket}));
}

CAROM_START_PATH void worker_session::ring_host() {
  // If the host's queue is full it has messages to wake for.
  const auto error = send_patiently(channel_, pack_message(worker_message_kind::results), {},
                                    patience_in_shortage, false);
  if (is_shortage(error)) page_->header.host_armed.store(1, std::memory_order_seq_cst);
}

CAROM_START_PATH void worker_session::send(std::vector<std::byte> bytes) {
  if (send_patiently(channel_, bytes, {}, patience_in_shortage, true)) leave(1);
}

}  // namespace carom::runtime

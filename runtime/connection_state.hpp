// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/descriptors.hpp>
#include <carom/wait.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "runtime/above_stdio.hpp"
#include "runtime/handle_fd.hpp"
#include "runtime/outgoing_frame.hpp"
#include "runtime/socket_wait.hpp"
#include "runtime/unique_fd.hpp"
#include "serialization/connection_frame.hpp"

namespace carom::runtime {

/// The receiving thread's.
struct receiving_side {
  serialization::frame_reader reader;
  std::vector<unique_fd> descriptors;  // that have come with the message under way
  bool descriptors_lost = false;       // some of them, and all behind
  bool ended = false;                  // the other end is closed, everything received
};

/// The sending thread's.
struct sending_side {
  /// A message that is out in part, or could not be sent at once: goes before all others.
  std::optional<outgoing_frame> left_over;
  /// The message that send_offset has begun.
  struct partial_message {
    serialization::frame_header_bytes header;
    std::size_t size;
    std::size_t sent;  // of header and bytes together
  };
  std::optional<partial_message> partial;
  /// A message was torn: none can follow.
  bool broken = false;
};

/// What is behind a connection. The members above are used by the thread that receives and by the
/// one that sends; the others do not change while either is at it.
struct connection_state {
  connection_state() = default;
  connection_state(const connection_state&) = delete;
  connection_state& operator=(const connection_state&) = delete;
  ~connection_state() {
    if (!socket.intact()) forget_descriptors();
  }
  /// For a forked copy that has not inherited them: what is received or sent in part is another
  /// process's, and the numbers are perhaps a stranger's.
  void forget_descriptors() noexcept;

  handle_fd socket;
  bool readable = true;
  bool writable = true;
  bool blocking = true;
  bool local = true;  ///< a Unix socket: descriptors can travel
  std::size_t max_message = connection::no_limit;

  receiving_side in;
  sending_side out;
};

/// Looks at what `socket` is. Empty if it is no stream socket of the Unix or internet family.
std::unique_ptr<connection_state> make_connection_state(unique_fd socket, bool readable,
                                                        bool writable);

/// Whether what comes next belongs to a message that is skipped.
inline bool has_skipped(const connection_state& state) noexcept {
  return state.in.reader.at() == serialization::frame_reader::stage::skipping;
}

/// Whether something has come that no connection sends: nothing more can be received.
inline bool is_broken(const connection_state& state) {
  return state.in.reader.at() == serialization::frame_reader::stage::broken;
}
/// Takes what is left of a skipped message as far as it has come; false when more of it is to come,
/// true also at the end.
bool drop_skipped(connection_state& state);
/// Whether the next receive finds something at once; `until` as in wait_for_event.
bool wait_to_receive(connection_state& state, const deadline& until);

/// What `wait` needs of an open connection to receive from; throws process_error.
connection_state& receiver_of(const std::unique_ptr<connection_state>& state);

}  // namespace carom::runtime

namespace carom::detail {

/// The door for runtime/ into the handles.
struct connection_access {
  static connection make(std::unique_ptr<runtime::connection_state> state) {
    return connection(std::move(state));
  }
  static const std::unique_ptr<runtime::connection_state>& state(const connection& c) {
    return c.state_;
  }
  static runtime::listener_state& state(const listener& l) { return l.open_state(); }
  static const connection* connection_of(const waitable& w) { return w.connection_; }
  static listener* listener_of(const waitable& w) { return w.listener_; }
  static int fd_of(const waitable& w) { return w.fd_; }
};

}  // namespace carom::detail

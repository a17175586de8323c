// SPDX-License-Identifier: BSL-1.0
#include <carom/pipe.hpp>

#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include <array>
#include <carom/this_task.hpp>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "runtime/connection_state.hpp"

namespace carom {

using runtime::connection_state;
using runtime::deadline;
using runtime::outgoing_frame;
using serialization::frame_header;

namespace {

connection_state& sender_of(const std::unique_ptr<connection_state>& state) {
  if (!state) throw process_error("this connection is closed: it was closed here or moved from");
  if (!state->writable)
    throw process_error("this connection is read-only: send at the other end of the pipe");
  if (state->out.broken)
    throw process_error(
        "an earlier message of this connection was torn by an error: it can send no more");
  return *state;
}

/// How long a send may take.
struct send_patience {
  bool endless = true;
  deadline until{};  // when not endless
};

/// Too many descriptors on their way, or no memory in the kernel: no event tells when there are
/// not.
bool will_pass(int error) noexcept {
  return error == ETOOMANYREFS || error == ENOBUFS || error == ENOMEM;
}

[[noreturn]] void throw_send_error(int error) {
  if (error == EPIPE || error == ECONNRESET)
    throw process_error(
        "the other end of the connection is closed: the message could not be delivered");
  if (error == ETOOMANYREFS)
    throw process_error(
        "too many descriptors are on their way in unread messages (RLIMIT_NOFILE): let the "
        "receivers take some first");
  throw std::system_error(error, std::system_category(), "sending to a connection");
}

/// The rest of a message cannot be sent: the other end must not take the next one for it.
void tear(connection_state& state) noexcept {
  state.out.broken = true;
  state.out.left_over.reset();
  ::shutdown(state.socket.get(), SHUT_WR);
}

/// False when it would take longer.
bool push(connection_state& state, outgoing_frame& frame, const send_patience& limit) {
  while (!frame.whole()) {
    if (frame.send_some(state.socket.get(), limit.endless ? 0 : MSG_DONTWAIT) >= 0) continue;
    if (errno == EINTR) {
      this_task::checkpoint();
    } else if (errno == EAGAIN) {
      // Another process may have made the socket non-blocking under us.
      const deadline until = limit.endless ? std::nullopt : limit.until;
      if (!runtime::wait_for_event(state.socket.get(), POLLOUT, until)) return false;
    } else if (frame.begun() && will_pass(errno)) {
      // What there is of the message has gone: the rest follows, here or with the next send.
      this_task::checkpoint();
      if (!limit.endless && std::chrono::steady_clock::now() >= limit.until) return false;
      const timespec soon{0, 1'000'000};
      ::nanosleep(&soon, nullptr);
    } else {
      const int error = errno;
      if (frame.begun()) tear(state);
      throw_send_error(error);
    }
  }
  return true;
}

/// Keeps what has not been sent, for the next send.
void keep_left_over(connection_state& state, outgoing_frame&& frame) {
  try {
    frame.own();
    state.out.left_over.emplace(std::move(frame));
  } catch (...) {
    tear(state);
    throw process_error(
        "no memory for the rest of a message that was interrupted: this connection can send no "
        "more");
  }
}

bool push_left_over(connection_state& state, const send_patience& limit) {
  if (!state.out.left_over) return true;
  if (!push(state, *state.out.left_over, limit)) return false;
  state.out.left_over.reset();
  return true;
}

void send_frame(connection_state& state, outgoing_frame&& frame) {
  if (state.out.partial)
    throw process_error("send_offset has begun a message: finish it before another is sent");
  this_task::checkpoint();
  const send_patience limit{
      .endless = state.blocking,
      .until = state.blocking ? deadline{} : std::chrono::steady_clock::now()};
  if (!push_left_over(state, limit))
    throw timeout_error(
        "the other end has not taken an earlier message of this non-blocking connection: flush() "
        "before the next");
  try {
    if (push(state, frame, limit)) return;
  } catch (...) {
    if (frame.begun() && !state.out.broken) keep_left_over(state, std::move(frame));
    throw;
  }
  if (!frame.begun())
    throw timeout_error(
        "the other end takes nothing at the moment: this non-blocking connection has not sent the "
        "message");
  keep_left_over(state, std::move(frame));
}

}  // namespace

void connection::send_packed(std::uint64_t type, const detail::blob& packed) {
  connection_state& state = sender_of(state_);
  if (packed.has_descriptors() && !state.local)
    throw encoding_error(
        "the value holds a handle with a descriptor, which cannot travel over TCP: only Unix sockets "
        "of one machine carry descriptors");
  send_frame(state, outgoing_frame(frame_header{.typed = true, .type = type}, packed.bytes(),
                                   packed.has_descriptors() ? packed.find_descriptors() : nullptr));
}

void connection::send_bytes(std::span<const std::byte> bytes, std::size_t offset,
                            std::optional<std::size_t> size) {
  connection_state& state = sender_of(state_);
  if (offset > bytes.size())
    throw std::out_of_range("send_bytes: offset " + std::to_string(offset) +
                            " lies behind the buffer of " + std::to_string(bytes.size()));
  if (size && *size > bytes.size() - offset)
    throw std::out_of_range("send_bytes: " + std::to_string(*size) + " bytes from offset " +
                            std::to_string(offset) + " are more than the buffer of " +
                            std::to_string(bytes.size()) + " has");
  const auto sent = bytes.subspan(offset, size.value_or(bytes.size() - offset));
  send_frame(state, outgoing_frame(frame_header{}, sent, nullptr));
}

void connection::send_bytes(std::string_view text, std::size_t offset,
                            std::optional<std::size_t> size) {
  send_bytes(std::as_bytes(std::span(text.data(), text.size())), offset, size);
}

std::optional<std::size_t> connection::send_offset(std::span<const std::byte> bytes,
                                                   std::size_t offset) {
  connection_state& state = sender_of(state_);
  auto& partial = state.out.partial;
  constexpr std::size_t header_size = frame_header::size;
  const std::size_t taken =
      partial && partial->sent > header_size ? partial->sent - header_size : 0;
  if (partial ? bytes.size() != partial->size || offset != taken : offset != 0)
    throw std::invalid_argument("send_offset: go on with the same bytes at the offset reached, " +
                                std::to_string(taken) + " of " +
                                std::to_string(partial ? partial->size : bytes.size()));
  if (!partial) {
    if (!push_left_over(state, {.endless = false, .until = std::chrono::steady_clock::now()}))
      return std::nullopt;
    partial = runtime::sending_side::partial_message{
        serialization::write_header({.length = bytes.size()}), bytes.size(), 0U};
  }

  std::array<iovec, 2> parts;
  msghdr message{};
  message.msg_iov = parts.data();
  if (partial->sent < header_size)
    parts[message.msg_iovlen++] = {partial->header.data() + partial->sent,
                                   header_size - partial->sent};
  const auto rest = bytes.subspan(offset);
  parts[message.msg_iovlen++] = {const_cast<std::byte*>(rest.data()), rest.size()};
  ssize_t count;
  while ((count = ::sendmsg(state.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL)) < 0) {
    const int error = errno;
    if (error == EINTR) continue;
    if (partial->sent == 0) partial.reset();
    if (error == EAGAIN) return std::nullopt;
    if (partial) tear(state);
    throw_send_error(error);
  }
  partial->sent += static_cast<std::size_t>(count);
  if (partial->sent < header_size) return std::nullopt;
  const std::size_t more = partial->sent - header_size - taken;
  if (partial->sent == header_size + partial->size) partial.reset();
  return more;
}

bool connection::flush_for(std::optional<std::chrono::nanoseconds> timeout) {
  connection_state& state = sender_of(state_);
  return push_left_over(state, {.endless = !timeout, .until = runtime::deadline_after(timeout)});
}

}  // namespace carom

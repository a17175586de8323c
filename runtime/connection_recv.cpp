// SPDX-License-Identifier: BSL-1.0
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <carom/pipe.hpp>
#include <carom/this_task.hpp>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "runtime/connection_state.hpp"
#include "serialization/demangle.hpp"

namespace carom {

using runtime::connection_state;
using runtime::deadline;
using serialization::frame_fault;
using serialization::frame_header;
using serialization::frame_reader;
using stage = frame_reader::stage;

namespace {

/// More than a message can bring: the kernel's most for one call, on top of the format's.
constexpr std::size_t control_descriptors = 253;
constexpr std::size_t most_descriptors = frame_header::most_descriptors + control_descriptors;

void drop_descriptors(connection_state& state) noexcept {
  state.in.descriptors.clear();
  state.in.descriptors_lost = false;
}

[[noreturn]] void throw_ended(connection_state& state) {
  state.in.ended = true;
  drop_descriptors(state);
  const stage at = state.in.reader.at();
  if (state.in.reader.between() || at == stage::skipping)
    throw process_error(
        "the other end of the connection is closed: nothing more will come (at_end() tells this "
        "without an exception)");
  throw process_error(
      "the other end of the connection is closed, in the middle of a message, which is lost: its "
      "process has died or given up while it sent");
}

[[noreturn]] void throw_broken(frame_fault fault) {
  if (fault == frame_fault::handshake)
    throw authentication_error(
        "the other side asks for an authkey: give client() the listener's key");
  throw process_error(
      "what arrives is no message of a connection: the other side is no carom connection, or two "
      "processes have used the same end at once; this connection can receive no more");
}

/// Takes the descriptors out of a received message; keeps those for which there is room. Once some
/// were lost, no later one is taken for another.
void take_descriptors(msghdr& message, runtime::receiving_side& in) {
  std::array<runtime::unique_fd, control_descriptors> arrived;
  std::size_t count = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t in_part = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i != in_part && count != arrived.size(); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      arrived[count] = runtime::try_above_stdio(runtime::unique_fd(fd));
      if (!arrived[count++]) message.msg_flags |= MSG_CTRUNC;
    }
  }
  if (in.descriptors_lost) return;
  in.descriptors_lost = (message.msg_flags & MSG_CTRUNC) != 0;
  for (std::size_t i = 0; i != count && in.descriptors.size() < most_descriptors; ++i)
    in.descriptors.push_back(std::move(arrived[i]));
}

/// As recv(2). Only headers and tickets bring descriptors; elsewhere the kernel drops them.
ssize_t receive_once(connection_state& state, std::span<std::byte> room, int flags) {
  const stage at = state.in.reader.at();
  if (!state.local || (at != stage::header && at != stage::tickets))
    return ::recv(state.socket.get(), room.data(), room.size(), flags);
  iovec part{room.data(), room.size()};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int) * control_descriptors)];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t count = ::recvmsg(state.socket.get(), &message, flags | MSG_CMSG_CLOEXEC);
  if (count > 0 && (message.msg_controllen != 0 || (message.msg_flags & MSG_CTRUNC)))
    take_descriptors(message, state.in);
  return count;
}

/// How long a receive may take; `endless` may wait inside the system call.
struct patience {
  bool endless;
  deadline until;

  explicit patience(std::optional<std::chrono::nanoseconds> timeout)
      : endless(!timeout), until(runtime::deadline_after(timeout)) {}
};

/// At least one byte into `room`.
std::size_t receive_some(connection_state& state, std::span<std::byte> room,
                         const patience& limit) {
  for (;;) {
    const ssize_t count = receive_once(state, room, limit.endless ? 0 : MSG_DONTWAIT);
    if (count > 0) return static_cast<std::size_t>(count);
    if (count == 0 || errno == ECONNRESET || errno == EPIPE) throw_ended(state);
    if (errno == EINTR) {
      this_task::checkpoint();
    } else if (errno == EAGAIN) {
      // Another process may have made the socket non-blocking under us.
      if (!runtime::wait_for_event(state.socket.get(), POLLIN, limit.until))
        throw timeout_error(state.in.reader.between()
                                ? "no message has come in time"
                                : "no whole message has come in time; its beginning is kept");
    } else {
      throw std::system_error(errno, std::system_category(), "receiving from a connection");
    }
  }
}

void check_usable(connection_state& state) {
  if (state.in.reader.at() == stage::broken) throw_broken(state.in.reader.fault());
  if (state.in.ended) throw_ended(state);
}

void skip(connection_state& state) noexcept {
  state.in.reader.skip();
  drop_descriptors(state);
}

/// Reads on until the message is whole, or its body begins and `stop_at_body`. Skips one longer
/// than `longest`.
void receive_until(connection_state& state, const patience& limit, std::size_t longest,
                   bool stop_at_body) {
  check_usable(state);
  this_task::checkpoint();
  frame_reader& reader = state.in.reader;
  for (;;) {
    const stage at = reader.at();
    if (at == stage::broken || (at == stage::tickets && !state.local)) {
      reader.give_up();
      drop_descriptors(state);
      throw_broken(reader.fault());
    }
    if (at == stage::body || at == stage::whole || at == stage::tickets) {
      const std::uint64_t length = reader.header().length;
      const std::size_t most = std::min(longest, state.max_message);
      if (length > most) {
        skip(state);
        throw process_error("a message of " + std::to_string(length) +
                            " bytes has come, and at most " + std::to_string(most) +
                            " are wanted: it is skipped, the next can be received");
      }
      if (at == stage::whole || (at == stage::body && stop_at_body)) return;
    }
    reader.advance(receive_some(state, reader.room(), limit));
  }
}

/// The descriptors of a message that is whole, under its tickets; fewer if the kernel lost some.
detail::descriptor_list take_descriptor_list(connection_state& state) {
  detail::descriptor_list list;
  const auto& tickets = state.in.reader.tickets();
  auto& fds = state.in.descriptors;
  for (std::size_t i = 0; i < std::min(fds.size(), tickets.size()); ++i)
    list.adopt(tickets[i], fds[i].release());
  drop_descriptors(state);
  return list;
}

connection_state& open_receiver(const std::unique_ptr<connection_state>& state) {
  if (!state) throw process_error("this connection is closed: it was closed here or moved from");
  if (!state->readable)
    throw process_error("this connection is write-only: receive at the other end of the pipe");
  return *state;
}

constexpr std::chrono::nanoseconds at_once{0};

}  // namespace

namespace runtime {

connection_state& receiver_of(const std::unique_ptr<connection_state>& state) {
  return open_receiver(state);
}

bool drop_skipped(connection_state& state) {
  frame_reader& reader = state.in.reader;
  while (reader.at() == stage::skipping) {
    const auto room = reader.room();
    const ssize_t count = receive_once(state, room, MSG_DONTWAIT);
    if (count > 0) {
      reader.advance(static_cast<std::size_t>(count));
    } else if (count < 0 && errno == EINTR) {
      this_task::checkpoint();
    } else {
      return count == 0 || errno != EAGAIN;  // the end, which is to be received
    }
  }
  return true;
}

bool wait_to_receive(connection_state& state, const deadline& until) {
  if (state.in.ended || state.in.reader.at() == stage::broken) return true;
  while (wait_for_event(state.socket.get(), POLLIN, until)) {
    if (state.in.reader.at() != stage::skipping) return true;
    if (drop_skipped(state) && state.in.reader.at() == stage::skipping) return true;
  }
  return false;
}

}  // namespace runtime

detail::arrived_message connection::recv_packed(std::uint64_t type, const char* type_name,
                                                std::optional<std::chrono::nanoseconds> timeout) {
  connection_state& state = open_receiver(state_);
  receive_until(state, patience(timeout), no_limit, false);
  const frame_header header = state.in.reader.header();
  detail::arrived_message message{{}, take_descriptor_list(state)};
  message.bytes = state.in.reader.take_body();
  if (!header.typed)
    throw encoding_error("raw bytes have come where a " + serialization::demangle(type_name) +
                         " was asked for: receive them by recv_bytes");
  if (header.type != type)
    throw encoding_error("a value of another type has come than the " +
                         serialization::demangle(type_name) + " that was asked for");
  return message;
}

std::vector<std::byte> connection::recv_bytes(std::size_t maxlength) {
  return recv_bytes_within(maxlength, blocking() ? std::nullopt : std::optional(at_once));
}

std::vector<std::byte> connection::recv_bytes_within(
    std::size_t maxlength, std::optional<std::chrono::nanoseconds> timeout) {
  connection_state& state = open_receiver(state_);
  receive_until(state, patience(timeout), maxlength, false);
  drop_descriptors(state);
  return state.in.reader.take_body();
}

std::size_t connection::recv_bytes_into(std::span<std::byte> buffer, std::size_t offset) {
  connection_state& state = open_receiver(state_);
  if (offset > buffer.size())
    throw std::out_of_range("recv_bytes_into: offset " + std::to_string(offset) +
                            " lies behind the buffer of " + std::to_string(buffer.size()));
  const auto free = buffer.subspan(offset);
  const patience limit(state.blocking ? std::nullopt : std::optional(at_once));
  frame_reader& reader = state.in.reader;
  receive_until(state, limit, no_limit, true);

  const auto length = static_cast<std::size_t>(reader.header().length);
  if (length > free.size() || reader.at() == stage::whole || reader.received() != 0) {
    receive_until(state, limit, no_limit, false);
    drop_descriptors(state);
    std::vector<std::byte> body = reader.take_body();
    if (length > free.size())
      throw buffer_too_short({.message = std::move(body), .capacity = free.size()});
    std::copy(body.begin(), body.end(), free.begin());
    reader.reuse(std::move(body));
    return length;
  }

  std::size_t received = 0;
  try {
    while (received != length)
      received += receive_some(state, free.first(length).subspan(received), limit);
  } catch (...) {
    if (!state.in.ended) reader.put_back(free.first(received));
    throw;
  }
  reader.received_elsewhere();
  reader.take_body();
  drop_descriptors(state);
  return length;
}

bool connection::poll_for(std::optional<std::chrono::nanoseconds> timeout) {
  this_task::checkpoint();
  return runtime::wait_to_receive(open_receiver(state_), runtime::deadline_after(timeout));
}

bool connection::at_end() {
  connection_state& state = open_receiver(state_);
  if (state.in.ended) return true;
  if (state.in.reader.at() == stage::broken || !runtime::drop_skipped(state)) return false;
  std::byte next;
  ssize_t count;
  do count = ::recv(state.socket.get(), &next, 1, MSG_PEEK | MSG_DONTWAIT);
  while (count < 0 && errno == EINTR);
  if (count == 0 || (count < 0 && (errno == ECONNRESET || errno == EPIPE))) state.in.ended = true;
  return state.in.ended;
}

}  // namespace carom

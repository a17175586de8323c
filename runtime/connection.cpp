// SPDX-License-Identifier: BSL-1.0
#include <carom/pipe.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "runtime/connection_state.hpp"

// Connections but for sending and receiving: what they are, how they travel.
namespace carom {

using runtime::connection_state;
using runtime::unique_fd;

namespace {

/// An end with a message half received or half sent is of no use to anybody else.
bool between_messages(const connection_state& state) {
  return state.in.reader.between() && !state.out.left_over && !state.out.partial;
}

connection_state& open_state(const std::unique_ptr<connection_state>& state) {
  if (state) return *state;
  throw process_error("this connection is closed: it was closed here or moved from");
}

constexpr unsigned char form_open = 1, form_readable = 2, form_writable = 4, form_blocking = 8;

}  // namespace

namespace runtime {

void connection_state::forget_descriptors() noexcept {
  for (unique_fd& received : in.descriptors) (void)received.release();
  if (out.left_over) out.left_over->forget_descriptors();
}

std::unique_ptr<connection_state> make_connection_state(unique_fd socket, bool readable,
                                                        bool writable) {
  int domain = 0, type = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return nullptr;
  size = sizeof type;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0) return nullptr;
  if (type != SOCK_STREAM || (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6))
    return nullptr;
  auto state = std::make_unique<connection_state>();
  state->socket = handle_fd(std::move(socket));
  state->readable = readable;
  state->writable = writable;
  state->local = domain == AF_UNIX;
  return state;
}

}  // namespace runtime

std::uint64_t detail::type_mark(const char* mangled_name) noexcept {
  // FNV-1a; 0 is for messages without a type.
  std::uint64_t mark = 0xcbf29ce484222325;
  for (const char* at = mangled_name; *at; ++at)
    mark = (mark ^ static_cast<unsigned char>(*at)) * 0x100000001b3;
  return mark == 0 ? 1 : mark;
}

connection::connection() noexcept = default;
connection::connection(std::unique_ptr<connection_state> state) noexcept
    : state_(std::move(state)) {}
connection::connection(connection&&) noexcept = default;
connection& connection::operator=(connection&&) noexcept = default;
connection::~connection() = default;

connection::connection(file_descriptor socket, bool readable, bool writable) {
  if (!readable && !writable)
    throw std::invalid_argument("a connection must be readable, writable, or both");
  const int fd = socket.get();
  state_ = runtime::make_connection_state(unique_fd(socket.release()), readable, writable);
  if (!state_)
    throw std::invalid_argument("descriptor " + std::to_string(fd) +
                                " cannot be a connection: a connected stream socket, Unix or TCP, "
                                "is needed");
}

connection connection::duplicate() const {
  const connection_state& state = open_state(state_);
  if (!between_messages(state))
    throw process_error(
        "this connection is in the middle of a message: receive it, or flush(), before another "
        "handle is made");
  auto copy = runtime::make_connection_state(
      unique_fd(file_descriptor::duplicate(state.socket.get()).release()), state.readable,
      state.writable);
  if (!copy) throw process_error("the connection's descriptor was closed or replaced");
  copy->blocking = state.blocking;
  copy->max_message = state.max_message;
  return connection(std::move(copy));
}

void connection::setblocking(bool blocking) { open_state(state_).blocking = blocking; }
bool connection::blocking() const noexcept { return !state_ || state_->blocking; }
std::size_t connection::max_message() const noexcept {
  return state_ ? state_->max_message : no_limit;
}
void connection::set_max_message(std::size_t bytes) { open_state(state_).max_message = bytes; }
int connection::fileno() const { return open_state(state_).socket.get(); }
void connection::close() noexcept { state_.reset(); }
bool connection::closed() const noexcept { return !state_; }
bool connection::readable() const noexcept { return state_ && state_->readable; }
bool connection::writable() const noexcept { return state_ && state_->writable; }

void connection::pack(detail::byte_writer& out) const {
  if (!state_) return out.put_raw<unsigned char>(0);
  if (!between_messages(*state_))
    throw encoding_error(
        "a connection in the middle of a message cannot travel: receive it, or flush(), before");
  out.put_raw(static_cast<unsigned char>(form_open | (state_->readable ? form_readable : 0) |
                                         (state_->writable ? form_writable : 0) |
                                         (state_->blocking ? form_blocking : 0)));
  out.put_raw(static_cast<std::uint64_t>(state_->max_message));
  out.put_descriptor(state_->socket.get());
}

connection connection::unpack(detail::byte_reader& in) {
  const auto form = in.get_raw<unsigned char>();
  if (form == 0) return {};
  if (form > (form_open | form_readable | form_writable | form_blocking) || !(form & form_open) ||
      !(form & (form_readable | form_writable)))
    detail::throw_corrupt("a connection's form");
  const auto max_message = in.get_raw<std::uint64_t>();
  auto state = runtime::make_connection_state(unique_fd(in.get_descriptor()), form & form_readable,
                                              form & form_writable);
  if (!state) detail::throw_corrupt("a connection's descriptor is no stream socket");
  state->blocking = form & form_blocking;
  state->max_message = static_cast<std::size_t>(max_message);
  return connection(std::move(state));
}

std::pair<connection, connection> pipe(bool duplex, bool read_nonblocking, bool write_nonblocking) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::system_category(), "making a pipe");
  unique_fd first_fd(ends[0]), second_fd(ends[1]);
  first_fd = runtime::above_stdio(std::move(first_fd));
  second_fd = runtime::above_stdio(std::move(second_fd));
  // Holds for whatever else is done with the descriptors, too.
  if (!duplex) ::shutdown(first_fd.get(), SHUT_WR);
  connection first(file_descriptor(first_fd.release()), true, duplex);
  connection second(file_descriptor(second_fd.release()), duplex, true);
  first.setblocking(!read_nonblocking);
  second.setblocking(!write_nonblocking);
  return {std::move(first), std::move(second)};
}

}  // namespace carom

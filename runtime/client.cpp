// SPDX-License-Identifier: BSL-1.0
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <carom/listener.hpp>
#include <carom/this_task.hpp>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "runtime/authentication.hpp"
#include "runtime/connection_state.hpp"
#include "runtime/socket_address.hpp"
#include "runtime/socket_wait.hpp"

namespace carom {
namespace {

using runtime::deadline;
using runtime::handshake;
using runtime::kernel_address;
using runtime::unique_fd;
using std::chrono::nanoseconds;

[[noreturn]] void throw_timeout(const socket_address& address, const char* what) {
  throw timeout_error(std::string(what) + " in time at " + address.to_string());
}

[[noreturn]] void throw_connect_error(int error, const socket_address& address) {
  std::string text = "cannot connect to " + address.to_string();
  if (error == ECONNREFUSED || error == ENOENT) text += " (nobody listens there)";
  throw std::system_error(error, std::system_category(), text);
}

/// poll(2) does not tell when a Unix listener's backlog has room again, but connect(2) can wait for
/// it.
void connect_local(int fd, const kernel_address& name, const socket_address& address,
                   const deadline& until) {
  for (;;) {
    const nanoseconds left = std::clamp(runtime::time_left(until).value_or(nanoseconds::max()),
                                        nanoseconds(std::chrono::microseconds(1)),
                                        nanoseconds(std::chrono::hours(1000)));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const auto rest = std::chrono::duration_cast<std::chrono::microseconds>(left - seconds);
    timeval limit{.tv_sec = seconds.count(), .tv_usec = rest.count()};
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const int result = ::connect(fd, name.get(), name.size);
    const int error = errno;
    if (result == 0) {
      limit = {};
      ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
      return;
    }
    if (error == EINTR)
      this_task::checkpoint();
    else if (error == EAGAIN)
      throw_timeout(address, "the listener has not made room for one client more (backlog)");
    else
      throw_connect_error(error, address);
  }
}

void connect_internet(int fd, const kernel_address& name, const socket_address& address,
                      const deadline& until) {
  if (::connect(fd, name.get(), name.size) != 0) {
    // A signal does not end what connect has begun.
    if (errno != EINPROGRESS && errno != EINTR) throw_connect_error(errno, address);
    if (!runtime::wait_for_event(fd, POLLOUT, until)) throw_timeout(address, "nobody has answered");
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) throw_connect_error(error, address);
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

unique_fd connect_to(const socket_address& address, const deadline& until) {
  const kernel_address name = runtime::resolve(address);
  const bool local = name.family() == AF_UNIX;
  unique_fd made(
      ::socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC | (local ? 0 : SOCK_NONBLOCK), 0));
  if (!made) throw std::system_error(errno, std::system_category(), "making a socket");
  if (local)
    connect_local(made.get(), name, address, until);
  else
    connect_internet(made.get(), name, address, until);
  return runtime::above_stdio(std::move(made));
}

[[noreturn]] void throw_refused(handshake::state state, const socket_address& address) {
  const std::string where = " at " + address.to_string();
  switch (state) {
    case handshake::state::refused:
      throw authentication_error("the listener" + where + " refuses: it has another authkey");
    case handshake::state::wrong_key:
      throw authentication_error("whoever listens" + where + " has not the same authkey");
    default:
      throw authentication_error("whoever listens" + where +
                                 " does not authenticate itself: it has no authkey, or is no carom "
                                 "listener");
  }
}

void prove(int fd, const authkey& key, const socket_address& address, const deadline& until) {
  handshake proof(handshake::side::client, key, runtime::fresh_nonce());
  while (proof.now() == handshake::state::running) {
    const auto output = proof.output();
    const auto room = proof.room();
    const ssize_t count =
        output.empty() ? ::recv(fd, room.data(), room.size(), MSG_DONTWAIT)
                       : ::send(fd, output.data(), output.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0 && output.empty()) {
      proof.advance(static_cast<std::size_t>(count));
    } else if (count > 0) {
      proof.sent(static_cast<std::size_t>(count));
    } else if (count < 0 && errno == EINTR) {
      this_task::checkpoint();
    } else if (count < 0 && errno == EAGAIN) {
      if (!runtime::wait_for_event(fd, output.empty() ? POLLIN : POLLOUT, until))
        throw_timeout(address,
                      "the listener has not authenticated itself (is it in accept()? has it an "
                      "authkey?)");
    } else if (count == 0 || errno == ECONNRESET || errno == EPIPE) {
      throw authentication_error("the listener at " + address.to_string() +
                                 " has hung up before it proved to have the authkey");
    } else {
      throw std::system_error(errno, std::system_category(), "authenticating");
    }
  }
  if (proof.now() != handshake::state::proved) throw_refused(proof.now(), address);
}

}  // namespace

connection client(const socket_address& address, const client_options& options) {
  if (!address)
    throw std::invalid_argument("client() needs the address of a listener (listener::address())");
  if (options.timeout <= nanoseconds(0))
    throw std::invalid_argument("client(): the timeout must be more than 0");
  const deadline until = runtime::deadline_after(options.timeout);
  unique_fd socket = connect_to(address, until);
  if (!options.authkey.empty()) prove(socket.get(), options.authkey, address, until);
  auto state = runtime::make_connection_state(std::move(socket), true, true);
  if (!state) throw process_error("the client's descriptor was replaced");
  state->max_message = options.max_message;
  return detail::connection_access::make(std::move(state));
}

}  // namespace carom

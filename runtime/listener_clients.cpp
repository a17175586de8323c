// SPDX-License-Identifier: BSL-1.0
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <carom/log.hpp>
#include <carom/this_task.hpp>
#include <cerrno>
#include <iterator>
#include <system_error>

#include "runtime/connection_state.hpp"
#include "runtime/listener_state.hpp"
#include "runtime/socket_address.hpp"

namespace carom::runtime {

using std::chrono::steady_clock;

namespace {

/// Taken from the kernel at a time, so that a flood of clients leaves time to hear those before.
constexpr int most_at_once = 64;

/// Clients that have proved themselves and wait for accept(): more stay with the kernel.
constexpr std::size_t most_ready = 64;

/// Whether a client waits: a full table of descriptors is told before that is looked at.
bool has_waiting_client(int listening) {
  pollfd state{listening, POLLIN, 0};
  return ::poll(&state, 1, 0) > 0;
}

/// What concerns the client that was to be accepted, not the listener (accept(2)).
bool is_clients_fault(int error) {
  switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH: return true;
    default: return false;
  }
}

const char* why_refused(handshake::state state) {
  switch (state) {
    case handshake::state::wrong_key: return "it has not the same authkey";
    case handshake::state::foreign: return "it speaks something else: has it an authkey at all?";
    default: return "it says that this side has not the same authkey";
  }
}

}  // namespace

bool listener_state::advance() {
  forget_inherited();
  for (auto one = clients_.begin(); one != clients_.end();) {
    const auto next = std::next(one);
    if (!advance_client(one)) clients_.erase(one);
    one = next;
  }
  const bool more = accept_some();
  // Only now: what was sent in time, but not looked at in time, counts.
  const auto now = steady_clock::now();
  while (!clients_.empty() && clients_.front().until <= now)
    refuse(clients_.begin(), "it is too slow");
  return more;
}

/// In a forked copy the clients under way are the original's. Their descriptors may not have been
/// inherited any more than that of the listener was.
void listener_state::forget_inherited() noexcept {
  if (owner_ == ::getpid()) return;
  if (!socket_.intact()) {
    for (client& one : clients_) (void)one.socket.release();
    for (accepted& one : ready_) (void)one.socket.release();
  }
  clients_.clear();
  ready_.clear();
  owner_ = ::getpid();
}

/// True if there may be more.
bool listener_state::accept_some() {
  if (!needs_handshakes()) return false;
  for (int i = 0; i < most_at_once && ready_.size() < most_ready; ++i) {
    auto one = accept_one();
    if (!one) return false;
    if (clients_.size() >= options_.max_handshakes)
      refuse(clients_.begin(), "too many clients are about to prove themselves (max_handshakes)");
    const auto until = deadline_after(options_.handshake_timeout);
    clients_.push_back({std::move(one->socket), std::move(one->from),
                        handshake(handshake::side::listener, options_.authkey, fresh_nonce()),
                        until.value_or(steady_clock::time_point::max())});
    const auto last = std::prev(clients_.end());
    if (!advance_client(last)) clients_.erase(last);
  }
  return true;
}

std::optional<listener_state::accepted> listener_state::accept_one() {
  for (;;) {
    kernel_address from;
    from.size = sizeof from.storage;
    unique_fd socket(::accept4(socket_.get(), from.get(), &from.size, SOCK_CLOEXEC));
    if (socket) {
      if (from.family() != AF_UNIX) {
        const int on = 1;
        ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
      }
      return accepted{above_stdio(std::move(socket)), readable_address(from)};
    }
    const int error = errno;
    if (error == EAGAIN) return std::nullopt;
    const bool exhausted =
        error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
    if (error == EINTR) {
      this_task::checkpoint();
    } else if (exhausted && (!ready_.empty() || !has_waiting_client(socket_.get()))) {
      return std::nullopt;  // who is ready takes a descriptor along
    } else if (exhausted && !clients_.empty()) {
      refuse(clients_.begin(), "this process has no descriptor left");
    } else if (!is_clients_fault(error)) {
      throw std::system_error(error, std::system_category(),
                              "accepting a client at " + address_.to_string());
    }
  }
}

/// False when the client is no longer under way.
bool listener_state::advance_client(client_list::iterator one) {
  for (;;) {
    if (const auto output = one->proof.output(); !output.empty()) {
      const ssize_t count =
          ::send(one->socket.get(), output.data(), output.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count >= 0) {
        one->proof.sent(static_cast<std::size_t>(count));
        continue;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return true;
      ++refused_;
      return false;
    }
    if (one->proof.now() == handshake::state::proved) {
      ready_.push_back({std::move(one->socket), std::move(one->from)});
      return false;
    }
    if (one->proof.now() != handshake::state::running) {
      refuse(one, why_refused(one->proof.now()));
      return true;  // gone already
    }
    const auto room = one->proof.room();
    const ssize_t count = ::recv(one->socket.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (count > 0) {
      one->proof.advance(static_cast<std::size_t>(count));
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
      ++refused_;  // it left: no news, however many do
      return false;
    } else if (errno == EAGAIN) {
      return true;
    }
  }
}

/// Says why at most once a second: strangers shall not fill the log.
void listener_state::refuse(client_list::iterator one, const char* why) {
  ++refused_;
  const auto now = steady_clock::now();
  if (now >= next_log_) {
    log()->warn(
        "a client{}{} of the listener at {} is refused: {}{}", one->from ? " from " : "",
        one->from.to_string(), address_.to_string(), why,
        unlogged_ == 0 ? "" : "; " + std::to_string(unlogged_) + " more were since the last");
    unlogged_ = 0;
    next_log_ = now + std::chrono::seconds(1);
  } else {
    ++unlogged_;
  }
  clients_.erase(one);
}

connection listener_state::take_ready() {
  std::optional<accepted> one;
  if (!ready_.empty()) {
    one = std::move(ready_.front());
    ready_.pop_front();
  } else {
    one = accept_one();
  }
  if (!one) return {};
  auto state = make_connection_state(std::move(one->socket), true, true);
  if (!state) throw process_error("the listener's descriptor was replaced");
  state->max_message = options_.max_message;
  last_accepted_ = std::move(one->from);
  return detail::connection_access::make(std::move(state));
}

connection listener_state::accept(std::optional<std::chrono::nanoseconds> timeout) {
  const deadline until = deadline_after(timeout);
  std::vector<pollfd> polled;
  for (;;) {
    this_task::checkpoint();
    const bool more = advance();
    if (has_ready() || !needs_handshakes())
      if (connection one = take_ready(); !one.closed()) return one;
    const auto now = steady_clock::now();
    if (until && *until <= now)
      throw timeout_error(
          "no client has connected in time at " + address_.to_string() +
          (refused_ ? "; " + std::to_string(refused_) + " were refused so far" : ""));
    polled.clear();
    add_to(polled);
    wait_for_events(polled, more ? deadline(now) : earlier(until, next_deadline()));
  }
}

void listener_state::add_to(std::vector<pollfd>& polled) const {
  polled.push_back({socket_.get(), POLLIN, 0});
  if (owner_ != ::getpid()) return;
  for (const client& one : clients_)
    polled.push_back(
        {one.socket.get(), static_cast<short>(one.proof.output().empty() ? POLLIN : POLLOUT), 0});
}

deadline listener_state::next_deadline() const {
  if (clients_.empty()) return std::nullopt;
  return clients_.front().until;
}

}  // namespace carom::runtime

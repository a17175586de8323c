// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/authkey.hpp>
#include <carom/export.hpp>
#include <carom/pipe.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace carom {

namespace runtime {
class listener_state;
}

enum class address_family {
  local,    ///< a Unix socket in the file system (AF_UNIX); descriptors travel over it
  internet  ///< TCP (AF_INET, AF_INET6)
};

/// Where a listener is found. It travels.
class CAROM_API socket_address {
 public:
  /// None.
  socket_address() = default;
  /// "host:port", "[host]:port" or the path of a Unix socket, which must contain a slash
  /// ("./name"). Throws std::invalid_argument for anything else, for paths longer than the 107
  /// bytes that a Unix socket allows, and for abstract sockets: they have no permissions, so that
  /// any user of the machine could connect.
  socket_address(std::string_view text);  // NOLINT(google-explicit-constructor)
  socket_address(const char* text) : socket_address(std::string_view(text)) {}         // NOLINT
  socket_address(const std::string& text) : socket_address(std::string_view(text)) {}  // NOLINT
  socket_address(std::string host, std::uint16_t port);

  /// Whether it names anything.
  explicit operator bool() const noexcept { return !host_.empty() || !path_.empty(); }
  address_family family() const noexcept {
    return path_.empty() ? address_family::internet : address_family::local;
  }
  /// Empty for a Unix socket.
  const std::string& host() const noexcept { return host_; }
  /// 0 lets a listener choose a free one.
  std::uint16_t port() const noexcept { return port_; }
  /// Empty for TCP.
  const std::string& path() const noexcept { return path_; }
  /// As it can be written: "127.0.0.1:4711", "[::1]:4711", "/run/service/socket".
  std::string to_string() const;

  friend bool operator==(const socket_address&, const socket_address&) = default;
  friend CAROM_API std::ostream& operator<<(std::ostream& out, const socket_address& address);

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& host_& port_& path_;
  }

 private:
  std::string host_;
  std::uint16_t port_ = 0;
  std::string path_;
};

struct listener_options {
  /// None: chosen for the family.
  socket_address address{};
  /// Used where there is no address: `local` makes a socket in a new directory of its own (mode
  /// 0700) in $TMPDIR or /tmp, `internet` a free port of 127.0.0.1.
  address_family family = address_family::local;
  /// Connections that the kernel holds until `accept` looks at them.
  int backlog = 128;
  /// What a client must have. Without one everybody who reaches the address is accepted; for TCP
  /// that must be said with `insecure_no_key`.
  carom::authkey authkey{};
  bool insecure_no_key = false;
  /// A client that has not proved itself by then is dropped.
  std::chrono::nanoseconds handshake_timeout = std::chrono::seconds(5);
  /// How many clients may be about to prove themselves; one more drops the oldest.
  std::size_t max_handshakes = 256;
  /// `connection::max_message` of what is accepted.
  std::size_t max_message = std::size_t{1} << 30;
};

/// Waits for clients and gives a connection to each (billiard: Listener). Not synchronized. In a
/// forked copy it accepts too, each copy its own clients, and closes without removing the path; a
/// child of start_method::fork does not inherit it, and gets process_error.
class CAROM_API listener {
 public:
  /// Throws std::system_error with what to do when the address is in use or cannot be bound,
  /// std::invalid_argument for options that make no sense.
  explicit listener(listener_options options = {});
  listener(const socket_address& address, carom::authkey authkey);
  listener(listener&&) noexcept;
  listener& operator=(listener&&) noexcept;
  ~listener();

  /// The next client that has proved to have the key. The handshakes of all who have come go on
  /// side by side: who is silent, slow, wrong or hostile holds up nobody, is dropped and counted by
  /// `refused`, and the log says why; it is not this function's error. (billiard's `accept` raises
  /// AuthenticationError, so that a stranger ends a careless server.) Throws process_error if
  /// closed, std::system_error if the process has no descriptor left.
  connection accept() { return accept_within(std::nullopt); }
  /// The same, with timeout_error after `timeout`.
  template <class Rep, class Period>
  connection accept(std::chrono::duration<Rep, Period> timeout) {
    return accept_within(detail::to_nanoseconds(timeout));
  }

  /// As bound: with the port or path that was chosen.
  const socket_address& address() const;
  /// Where the last client that was accepted came from; none for Unix sockets, which have no name.
  const socket_address& last_accepted() const;
  /// How many clients were dropped: wrong key, not carom, too late, too many.
  std::uint64_t refused() const;

  /// The listening descriptor. It does not tell when a client has proved itself: `carom::wait`
  /// does.
  int fileno() const;
  /// Drops those who have not been accepted, and removes the path. Closing twice is nothing.
  void close() noexcept;
  bool closed() const noexcept;

 private:
  friend struct detail::connection_access;
  connection accept_within(std::optional<std::chrono::nanoseconds> timeout);
  runtime::listener_state& open_state() const;

  std::unique_ptr<runtime::listener_state> state_;
};

struct client_options {
  carom::authkey authkey{};
  /// For connecting and proving each other together; looking a host's name up is not counted.
  std::chrono::nanoseconds timeout = std::chrono::seconds(20);
  /// `connection::max_message`.
  std::size_t max_message = std::size_t{1} << 30;
};

/// Connects to a listener (billiard: Client). With a key both sides prove that they have it: HMAC
/// with SHA-256 over fresh random numbers of both; nothing else is read before. Throws
/// authentication_error when the listener has another key or refuses, timeout_error, and
/// std::system_error when nobody listens there. Without a key it returns at once: a listener that
/// asks for one is noticed when something is received (authentication_error).
CAROM_API connection client(const socket_address& address, const client_options& options = {});
template <class Rep = std::int64_t, class Period = std::ratio<1>>
connection client(const socket_address& address, carom::authkey authkey,
                  std::chrono::duration<Rep, Period> timeout = std::chrono::seconds(20)) {
  return client(address, client_options{.authkey = std::move(authkey),
                                        .timeout = detail::to_nanoseconds(timeout).value_or(
                                            std::chrono::nanoseconds::max())});
}

}  // namespace carom

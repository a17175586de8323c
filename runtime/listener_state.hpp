// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <carom/listener.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "runtime/authentication.hpp"
#include "runtime/handle_fd.hpp"
#include "runtime/socket_wait.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// A Unix socket's place in the file system, removed with its owner. In a forked copy nothing is.
class socket_path {
 public:
  socket_path() = default;
  socket_path(const socket_path&) = delete;
  socket_path& operator=(const socket_path&) = delete;
  ~socket_path() { remove(); }

  /// Makes a directory for the socket alone; the path in it. Throws std::system_error.
  std::string make_directory();
  /// The socket is bound there now.
  void bound(const std::string& path);
  void remove() noexcept;

 private:
  pid_t owner_ = 0;
  std::string directory_, path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

/// What is behind a listener: its socket, and the clients that are about to prove themselves.
class listener_state {
 public:
  explicit listener_state(listener_options options);
  listener_state(const listener_state&) = delete;
  listener_state& operator=(const listener_state&) = delete;
  ~listener_state() { forget_inherited(); }

  /// Does what can be done without waiting; the next client that has proved itself.
  bool advance();
  bool has_ready() const noexcept { return !ready_.empty(); }
  connection take_ready();
  connection accept(std::optional<std::chrono::nanoseconds> timeout);

  /// What is to be polled for `advance` to have something to do, and until when at most.
  void add_to(std::vector<pollfd>& polled) const;
  deadline next_deadline() const;
  /// Without a key a client is ready as soon as the socket says so.
  bool needs_handshakes() const noexcept { return !options_.authkey.empty(); }

  const socket_address& address() const noexcept { return address_; }
  const socket_address& last_accepted() const noexcept { return last_accepted_; }
  std::uint64_t refused() const noexcept { return refused_; }
  int fd() const { return socket_.get(); }

 private:
  struct client {
    unique_fd socket;
    socket_address from;
    handshake proof;
    std::chrono::steady_clock::time_point until;
  };
  struct accepted {
    unique_fd socket;
    socket_address from;
  };
  using client_list = std::list<client>;

  void bind_to(const socket_address& wanted);
  bool accept_some();
  std::optional<accepted> accept_one();
  void forget_inherited() noexcept;
  bool advance_client(client_list::iterator one);
  void refuse(client_list::iterator one, const char* why);

  listener_options options_;
  socket_path path_;
  handle_fd socket_;
  socket_address address_, last_accepted_;
  client_list clients_;  // oldest first
  std::deque<accepted> ready_;
  std::uint64_t refused_ = 0;
  std::chrono::steady_clock::time_point next_log_{};
  std::uint64_t unlogged_ = 0;
  pid_t owner_;
};

}  // namespace carom::runtime

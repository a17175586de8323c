// SPDX-License-Identifier: BSL-1.0
// Strangers over TCP, where a refusal may be lost and an end comes as a reset.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <carom/connection.hpp>
#include <string>
#include <thread>
#include <vector>

#include "runtime/authentication.hpp"
#include "runtime/unique_fd.hpp"
#include "tests/connection/child.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using carom::authentication_error;
using carom::authkey;
using carom::connection;
using carom::listener;
using carom::timeout_error;
using carom::runtime::handshake;
using carom::runtime::unique_fd;
using carom::test::child;
using namespace std::chrono_literals;

const authkey tcp_key("what both sides know");

/// A plain socket that speaks to a listener over TCP.
class tcp_stranger {
 public:
  explicit tcp_stranger(const listener& l) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<std::uint16_t>(l.address().port()));
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  void say(std::string_view bytes) const {
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  /// Leaves by a reset, as after a crash of the machine.
  void reset() {
    const linger at_once{1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    fd_.reset();
  }

 private:
  unique_fd fd_;
};

/// A listening socket that answers with what it likes.
class tcp_impostor {
 public:
  tcp_impostor() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    EXPECT_EQ(::listen(fd_.get(), 8), 0);
    EXPECT_EQ(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
    port_ = ntohs(at.sin_port);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  /// A right challenge, then `second` in place of the welcome, then whatever is sent is read.
  void serve(std::string_view second) const {
    const unique_fd peer(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    handshake honest(handshake::side::listener, tcp_key, carom::runtime::fresh_nonce());
    const auto challenge = honest.output();
    ::send(peer.get(), challenge.data(), challenge.size(), MSG_NOSIGNAL);
    char answer[72];
    EXPECT_EQ(::recv(peer.get(), answer, sizeof answer, MSG_WAITALL), 72);
    ::send(peer.get(), second.data(), second.size(), MSG_NOSIGNAL);
    ::shutdown(peer.get(), SHUT_WR);
    while (::recv(peer.get(), answer, sizeof answer, 0) > 0) {
    }
  }

 private:
  unique_fd fd_;
  int port_ = 0;
};

void expect_honest_tcp_client_is_served(listener& l) {
  child honest([&] { carom::client(l.address(), tcp_key).send(std::string("honest")); });
  connection c = l.accept(30s);
  EXPECT_EQ(c.recv<std::string>(), "honest");
  EXPECT_EQ(honest.join(), 0);
}

TEST_F(Parity, Connection_over_TCP_a_wrong_key_is_refused_on_both_sides) {
  listener l{{.address = "127.0.0.1:0", .authkey = tcp_key}};
  child wrong([&] {
    try {
      carom::client(l.address(), authkey("a wrong key"));
    } catch (const authentication_error&) {
      carom::test::board::set(0, 1);
      return;
    }
    carom::test::board::set(0, 2);
  });
  while (!carom::test::board::get(0)) EXPECT_THROW(l.accept(1ms), timeout_error);
  EXPECT_EQ(carom::test::board::get(0), 1u);
  EXPECT_EQ(wrong.join(), 0);
  EXPECT_EQ(l.refused(), 1u);
  expect_honest_tcp_client_is_served(l);
}

TEST_F(Parity, Connection_over_TCP_strangers_that_reset_shout_or_are_silent_are_dropped) {
  // Enough for the honest one on a slow machine.
  listener l{{.address = "127.0.0.1:0",
              .authkey = tcp_key,
              .handshake_timeout = 1s * carom::test::slowness}};
  {
    tcp_stranger resets(l), shouts(l), leaves(l);
    resets.reset();
    shouts.say("GET / HTTP/1.1\r\nHost: here\r\n\r\n" + std::string(100'000, 'x'));
    leaves.say("caut");
  }
  const tcp_stranger silent(l);
  expect_honest_tcp_client_is_served(l);
  while (l.refused() < 4) EXPECT_THROW(l.accept(10ms), timeout_error);
}

TEST_F(Parity, Connection_over_TCP_a_flood_meets_the_default_limits) {
  listener l{{.address = "127.0.0.1:0", .backlog = 1024, .authkey = tcp_key}};
  child flood([&] {
    std::vector<tcp_stranger> all;
    for (int i = 0; i < 600; ++i) all.emplace_back(l);
    carom::test::board::set(0, 1);
    for (;;) ::pause();
  });
  while (!carom::test::board::get(0)) EXPECT_THROW(l.accept(1ms), timeout_error);
  expect_honest_tcp_client_is_served(l);
  EXPECT_GE(l.refused(), 600u - 256u) << "the oldest were dropped";
}

TEST_F(Parity, Connection_over_TCP_a_client_believes_no_second_message_but_the_welcome) {
  const tcp_impostor impostor;
  const std::string own_challenge = std::string("caut\1\1\x20\0", 8) + std::string(32, '\0');
  const std::string bad_proof = std::string("caut\1\3\x20\0", 8) + std::string(32, 'x');
  for (const std::string& second : {std::string("something bogus, and long enough for all"),
                                    own_challenge, bad_proof, std::string("cau"), std::string()}) {
    std::thread serving([&] { impostor.serve(second); });
    EXPECT_THROW(carom::client(impostor.address(), tcp_key, 30s), authentication_error) << second;
    serving.join();
  }
}

TEST_F(Parity, Connection_over_TCP_a_port_is_bound_again_at_once) {
  std::string address;
  {
    listener l{{.address = "127.0.0.1:0", .authkey = tcp_key}};
    address = l.address().to_string();
    child other([&] { carom::client(address, tcp_key).recv<int>(); });
    connection c = l.accept(30s);
    c.send(1);
    EXPECT_EQ(other.join(), 0);
  }  // this side closes first: its port stays in TIME_WAIT
  for (int i = 0; i < 3; ++i) {
    listener again{{.address = address, .authkey = tcp_key}};
    EXPECT_EQ(again.address().to_string(), address);
    expect_honest_tcp_client_is_served(again);
  }
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// Listeners and clients of each family, and their addresses.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <carom/connection.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "tests/connection/child.hpp"
#include "tests/support/board.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace fs = std::filesystem;

using carom::address_family;
using carom::authkey;
using carom::connection;
using carom::listener;
using carom::process_error;
using carom::socket_address;
using carom::timeout_error;
using carom::test::child;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;

/// A folder that goes with the test.
struct folder {
  fs::path path;
  folder() {
    std::string name = "/tmp/carom-test-XXXXXX";
    path = ::mkdtemp(name.data());
  }
  ~folder() { fs::remove_all(path); }
};

mode_t mode_of(const fs::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

TEST_F(Parity, Connection_listener_and_client_of_each_family) {
  const authkey key("a secret");
  for (const auto family : {address_family::local, address_family::internet}) {
    listener l{{.family = family, .authkey = key}};
    EXPECT_EQ(l.address().family(), family);
    child other([&] {
      connection c = carom::client(l.address(), key);
      c.send(std::string("hello"));
      c.send(c.recv<int>() + 1);
    });
    connection c = l.accept();
    EXPECT_EQ(c.recv<std::string>(), "hello");
    c.send(41);
    EXPECT_EQ(c.recv<int>(), 42);
    EXPECT_EQ(static_cast<bool>(l.last_accepted()), family == address_family::internet);
    EXPECT_EQ(other.join(), 0);
    EXPECT_TRUE(c.at_end());
    EXPECT_EQ(l.refused(), 0u);
  }
}

TEST_F(Parity, Connection_without_a_key_neither_side_waits_for_the_other) {
  listener l;
  connection c = carom::client(l.address());
  c.send(1);
  connection s = l.accept();
  EXPECT_EQ(s.recv<int>(), 1);
  s.send(2);
  EXPECT_EQ(c.recv<int>(), 2);
  EXPECT_EQ(s.max_message(), std::size_t{1} << 30);
  EXPECT_EQ(c.max_message(), std::size_t{1} << 30);
}

TEST_F(Parity, Connection_listener_over_TCP_without_a_key_must_say_so) {
  EXPECT_THAT([] { listener l{{.address = "127.0.0.1:0"}}; },
              ThrowsMessage<std::invalid_argument>(HasSubstr("insecure_no_key")));
  listener l{{.address = "127.0.0.1:0", .insecure_no_key = true, .max_message = 10}};
  EXPECT_NE(l.address().port(), 0);
  connection c = carom::client(l.address());
  connection s = l.accept();
  EXPECT_EQ(l.last_accepted().host(), "127.0.0.1");
  EXPECT_NE(l.last_accepted().port(), 0);
  c.send(std::string(100, 'x'));
  EXPECT_THROW(s.recv<std::string>(), process_error);
  EXPECT_EQ(s.max_message(), 10u);
  c.send(7);
  EXPECT_EQ(s.recv<int>(), 7);
}

TEST_F(Parity, Connection_listener_over_IPv6) {
  const int probe = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 loopback{};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const bool available =
      probe >= 0 && ::bind(probe, reinterpret_cast<sockaddr*>(&loopback), sizeof loopback) == 0;
  if (probe >= 0) ::close(probe);
  if (!available) {  // a machine without it: the error says what is the matter
    EXPECT_THROW(listener("[::1]:0", authkey::random()), std::system_error);
    return;
  }
  listener l{{.address = "[::1]:0", .insecure_no_key = true}};
  EXPECT_THAT(l.address().to_string(), StartsWith("[::1]:"));
  connection c = carom::client(l.address().to_string());
  connection s = l.accept();
  c.send(1);
  EXPECT_EQ(s.recv<int>(), 1);
}

TEST_F(Parity, Connection_descriptors_travel_over_Unix_sockets_and_not_over_TCP) {
  {
    listener l;
    connection c = carom::client(l.address());
    connection s = l.accept();
    auto [a, b] = carom::pipe();
    c.send(std::move(b));
    s.recv<connection>().send(5);
    EXPECT_EQ(a.recv<int>(), 5);
  }
  listener l{{.family = address_family::internet, .insecure_no_key = true}};
  connection c = carom::client(l.address());
  connection s = l.accept();
  auto [a, b] = carom::pipe();
  const connection& other = b;
  EXPECT_THAT([&] { c.send(other); },
              ThrowsMessage<carom::encoding_error>(HasSubstr("cannot travel over TCP")));
  c.send(1);
  EXPECT_EQ(s.recv<int>(), 1);
}

TEST_F(Parity, Connection_descriptors_announced_over_TCP_end_the_stream) {
  listener l{{.family = address_family::internet, .insecure_no_key = true}};
  connection c = carom::client(l.address());
  connection s = l.accept();
  const char raw[24 + 8] = {'c', 'm', 's', 'g', 1, 0, 1, 0};
  ASSERT_EQ(::send(c.fileno(), raw, sizeof raw, 0), static_cast<ssize_t>(sizeof raw));
  EXPECT_THROW(s.recv<int>(), process_error);
  EXPECT_THROW(s.recv<int>(), process_error);
}

TEST_F(Parity, Connection_listener_makes_a_private_directory_of_its_own) {
  const listener before;
  std::string path;
  {
    listener l;
    path = l.address().path();
    EXPECT_NE(path, before.address().path());
    EXPECT_EQ(mode_of(fs::path(path).parent_path()), 0700u);
    EXPECT_EQ(mode_of(path), 0600u);
    l.close();
    EXPECT_TRUE(l.closed());
    EXPECT_FALSE(fs::exists(fs::path(path).parent_path()));
    l.close();
    EXPECT_THROW(l.accept(), process_error);
    EXPECT_THROW(l.address(), process_error);
    EXPECT_THROW(l.fileno(), process_error);
  }
  EXPECT_THROW(carom::client(path), std::system_error);
}

TEST_F(Parity, Connection_listener_of_a_path_removes_it) {
  const folder at;
  const std::string path = at.path / "socket";
  {
    listener l(path, authkey::random());
    EXPECT_EQ(l.address().path(), path);
    listener moved = std::move(l);
    EXPECT_TRUE(fs::exists(path));
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(Parity, Connection_listener_of_a_relative_path_removes_it_wherever_it_is_then) {
  const folder at, elsewhere;
  const fs::path before = fs::current_path();
  fs::current_path(at.path);
  {
    listener l("./socket", authkey::random());
    EXPECT_EQ(l.address().path(), "./socket");
    fs::current_path(elsewhere.path);
  }
  fs::current_path(before);
  EXPECT_FALSE(fs::exists(fs::path(at.path) / "socket"));
}

TEST_F(Parity, Connection_listener_leaves_a_path_that_another_has_taken) {
  const folder at;
  const std::string path = at.path / "socket";
  auto first = std::make_unique<listener>(carom::listener_options{.address = path});
  fs::remove(path);  // as its error message says to do
  listener second{{.address = path}};
  first.reset();
  EXPECT_TRUE(fs::exists(path));
  connection c = carom::client(path);
  EXPECT_FALSE(second.accept().closed());
}

TEST_F(Parity, Connection_forked_copy_of_a_listener_accepts_and_leaves_the_path) {
  listener l;
  child other([&] {
    connection c = l.accept();
    c.send(c.recv<int>() + 1);
    l.close();
  });
  connection c = carom::client(l.address());
  c.send(1);
  EXPECT_EQ(c.recv<int>(), 2);
  EXPECT_EQ(other.join(), 0);
  EXPECT_TRUE(fs::exists(l.address().path()));
  connection again = carom::client(l.address());
  EXPECT_FALSE(l.accept().closed());
}

TEST_F(Parity, Connection_address_in_use) {
  const folder at;
  const std::string path = at.path / "socket";
  listener l{{.address = path}};
  const auto again = [](const socket_address& address) {
    return [=] { listener second(address, authkey::random()); };
  };
  EXPECT_THAT(again(path), ThrowsMessage<std::system_error>(HasSubstr("remove it")));
  listener tcp("127.0.0.1:0", authkey::random());
  EXPECT_THAT(again(tcp.address()), ThrowsMessage<std::system_error>(HasSubstr("another port")));
  try {
    again(path)();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::address_in_use);
  }
  EXPECT_THAT(again((at.path / "no" / "such").string()),
              ThrowsMessage<std::system_error>(HasSubstr("/no/such")));
}

TEST_F(Parity, Connection_addresses_that_are_none) {
  const auto refused = [](const std::string& text, const char* why) {
    EXPECT_THAT([&] { socket_address a(text); },
                ThrowsMessage<std::invalid_argument>(HasSubstr(why)))
        << text;
  };
  refused("/tmp/" + std::string(103, 'x'), "at most 107 bytes");
  EXPECT_EQ(socket_address("/tmp/" + std::string(102, 'x')).path().size(), 107u);
  refused(std::string("\0abstract", 9), "abstract");
  refused("@abstract", "abstract");
  refused(std::string("/tmp/a\0b", 8), "zero byte");
  refused("", "host:port");
  refused("name", "host:port, or a path with a slash");
  refused("host:", "port");
  refused("host:65536", "port");
  refused("host:-1", "port");
  refused("host:8o", "port");
  refused(":80", "host is missing");
  refused("::1:80", "brackets");
  EXPECT_THROW(socket_address("", 1), std::invalid_argument);
  EXPECT_EQ(socket_address("[::1]:80").host(), "::1");
  EXPECT_EQ(socket_address("[::1]:80").to_string(), "[::1]:80");
  EXPECT_EQ(socket_address("localhost:80"), socket_address("localhost", 80));
  EXPECT_FALSE(socket_address());
}

TEST_F(Parity, Connection_address_travels) {
  auto [a, b] = carom::pipe();
  a.send(socket_address("10.0.0.1:80"));
  EXPECT_EQ(b.recv<socket_address>(), "10.0.0.1:80");
}

TEST_F(Parity, Connection_options_that_make_no_sense) {
  EXPECT_THROW(listener({.backlog = 0}), std::invalid_argument);
  EXPECT_THROW(listener({.max_handshakes = 0}), std::invalid_argument);
  EXPECT_THROW(listener({.handshake_timeout = 0s}), std::invalid_argument);
  EXPECT_THROW(carom::client({}), std::invalid_argument);
  EXPECT_THROW(carom::client("./nobody", authkey::random(), 0s), std::invalid_argument);
  EXPECT_THROW(carom::client("no.such.host.invalid:1"), process_error);
}

TEST_F(Parity, Connection_client_of_nobody) {
  EXPECT_THAT([] { carom::client("/tmp/carom-no-such-socket"); },
              ThrowsMessage<std::system_error>(HasSubstr("nobody listens there")));
  listener l("127.0.0.1:0", authkey::random());
  const auto address = l.address();
  l.close();
  EXPECT_THAT([&] { carom::client(address, authkey::random()); },
              ThrowsMessage<std::system_error>(HasSubstr("nobody listens there")));
}

TEST_F(Parity, Connection_client_of_a_full_backlog_gives_up) {
  listener l{{.backlog = 1}};
  std::vector<connection> waiting;
  EXPECT_THROW(for (;;) waiting.push_back(carom::client(l.address(), {.timeout = 20ms})),
               timeout_error);
  EXPECT_GE(waiting.size(), 1u);
  EXPECT_FALSE(l.accept().closed());
  EXPECT_FALSE(carom::client(l.address(), {.timeout = 10s}).closed()) << "there is room again";
}

TEST_F(Parity, Connection_accept_times_out) {
  listener open, closed{{.authkey = authkey::random()}};
  for (listener* each : {&open, &closed}) {
    EXPECT_THROW(each->accept(0ms), timeout_error);
    EXPECT_THROW(each->accept(5ms), timeout_error);
  }
}

TEST_F(Parity, Connection_wait_for_listeners) {
  const authkey key("k");
  listener open, closed{{.authkey = key}};
  EXPECT_TRUE(carom::wait({open, closed}, 0ms).empty());
  connection first = carom::client(open.address());
  EXPECT_EQ(carom::wait({open, closed}), (std::vector<std::size_t>{0}));
  EXPECT_EQ(carom::wait({open, closed}), (std::vector<std::size_t>{0})) << "until it is accepted";
  open.accept(0ms);
  // A stranger that is silent does not make a listener ready; an honest client does.
  const int silent = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  closed.address().path().copy(name.sun_path, sizeof name.sun_path - 1);
  ASSERT_EQ(::connect(silent, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  EXPECT_TRUE(carom::wait({open, closed}, 20ms).empty());
  child other([&] { carom::client(closed.address(), key).send(1); });
  EXPECT_EQ(carom::wait({open, closed}), (std::vector<std::size_t>{1}));
  EXPECT_EQ(closed.accept(0ms).recv<int>(), 1);
  ::close(silent);
  EXPECT_EQ(other.join(), 0);
}

/// Two processes, one of which accepts connections of each family and hands them to the test.
TEST_F(Parity, Connection_accepted_ones_are_handed_on) {
  auto [mine, its] = carom::pipe();
  const authkey key = authkey::random();
  child accepting([&, &mine = mine, &its = its] {
    mine.close();
    for (const auto family : {address_family::local, address_family::internet}) {
      listener l{{.family = family, .authkey = key}};
      its.send(l.address());
      its.send(l.accept());
    }
    its.recv<int>();
  });
  its.close();
  for (const char* message : {"over a Unix socket", "over TCP"}) {
    const auto address = mine.recv<socket_address>();
    child remote([&] { carom::client(address, key).send(std::string(message)); });
    auto given = mine.recv<connection>();
    EXPECT_EQ(given.recv<std::string>(), message);
    EXPECT_EQ(remote.join(), 0);
  }
  mine.send(0);
  EXPECT_EQ(accepting.join(), 0);
}

TEST_F(Parity, Connection_listener_cycles_leave_nothing) {
  const folder at;
  const std::string saved = std::getenv("TMPDIR") ? std::getenv("TMPDIR") : "";
  ::setenv("TMPDIR", at.path.c_str(), 1);
  for (int i = 0; i < 500; ++i) {
    listener l;
    connection c = carom::client(l.address());
    connection s = l.accept();
    c.send(i);
    ASSERT_EQ(s.recv<int>(), i);
  }
  EXPECT_TRUE(fs::is_empty(at.path));
  if (saved.empty())
    ::unsetenv("TMPDIR");
  else
    ::setenv("TMPDIR", saved.c_str(), 1);
}

/// Clients leave and are refused while the wait looks at the same listener for the second time.
TEST_F(Parity, Connection_listener_stands_twice_in_one_wait) {
  const authkey key("a secret");
  listener l{{.authkey = key}};
  std::vector<child> rude;
  for (int i = 0; i < 3; ++i)
    rude.emplace_back([&] {
      for (;;) {
        try {
          carom::client(l.address()).send_bytes(std::vector<std::byte>(100));
        } catch (const carom::error&) {
        } catch (const std::system_error&) {
        }
      }
    });
  child honest([&] {
    for (int i = 0; i < 300; ++i) carom::client(l.address(), key).send(i);
  });
  for (int i = 0; i < 300; ++i) {
    std::vector<std::size_t> ready;
    EXPECT_NO_THROW(while (ready.empty()) ready = carom::wait({l, l}, std::chrono::seconds(60)));
    EXPECT_THAT(ready, testing::Not(testing::IsEmpty()));
    EXPECT_EQ(l.accept().recv<int>(), i);
  }
  EXPECT_EQ(honest.join(), 0);
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// Who is let in, and what strangers can do: the list, one test each.
#include "runtime/authentication.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <carom/connection.hpp>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "runtime/unique_fd.hpp"
#include "tests/connection/child.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

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
using testing::HasSubstr;
using testing::ThrowsMessage;

const authkey key("the right key");

template <class T>
constexpr bool can_be_printed = requires(std::ostream& out, const T& value) {
  out << value;
};

/// A client without manners.
class stranger {
 public:
  explicit stranger(const listener& l) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    l.address().path().copy(name.sun_path, sizeof name.sun_path - 1);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  }
  void say(std::string_view bytes) const {
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  std::string hear(std::size_t count) const {
    std::string bytes(count, '\0');
    const ssize_t got = ::recv(fd_.get(), bytes.data(), count, MSG_WAITALL);
    bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return bytes;
  }

 private:
  unique_fd fd_;
};

std::string bytes_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void give(handshake& to, std::string_view bytes) {
  for (const char c : bytes) {
    const auto room = to.room();
    if (room.empty()) return;
    room[0] = static_cast<std::byte>(c);
    to.advance(1);
  }
}

std::string take(handshake& from) {
  const std::string bytes = bytes_of(from.output());
  from.sent(bytes.size());
  return bytes;
}

constexpr std::size_t challenge_size = 40, answer_size = 72, welcome_size = 40, refusal_size = 8;

/// Honest clients get in while `l` is under attack, and whoever attacked is not let in.
void expect_honest_client_is_served(listener& l) {
  child honest([&] { carom::client(l.address(), key).send(std::string("honest")); });
  connection c = l.accept(30s);
  EXPECT_EQ(c.recv<std::string>(), "honest");
  EXPECT_EQ(honest.join(), 0);
}

TEST_F(Parity, Connection_wrong_key_is_refused_on_the_right_side) {
  listener l{{.authkey = key}};
  child wrong([&] {
    EXPECT_THAT([&] { carom::client(l.address(), authkey("a wrong key")); },
                ThrowsMessage<authentication_error>(HasSubstr("it has another authkey")));
    if (testing::Test::HasFailure()) throw std::runtime_error("not refused");
    carom::test::board::set(0, 1);
  });
  while (!carom::test::board::get(0)) EXPECT_THROW(l.accept(1ms), timeout_error);
  EXPECT_EQ(wrong.join(), 0);
  EXPECT_EQ(l.refused(), 1u);
  expect_honest_client_is_served(l);
}

TEST_F(Parity, Connection_client_without_the_key_is_refused) {
  listener l{{.authkey = key}};
  connection c = carom::client(l.address());
  c.send(1);
  EXPECT_THROW(l.accept(1ms), timeout_error);
  expect_honest_client_is_served(l);
  EXPECT_EQ(l.refused(), 1u);
  EXPECT_THAT([&] { c.recv<int>(); },
              ThrowsMessage<authentication_error>(HasSubstr("asks for an authkey")));
}

TEST_F(Parity, Connection_client_does_not_trust_a_listener_without_the_key) {
  listener l;
  child impostor([&] {
    connection c = l.accept();
    c.send(1);  // instead of a challenge
    c.recv_bytes();
  });
  EXPECT_THAT([&] { carom::client(l.address(), key, 30s); },
              ThrowsMessage<authentication_error>(HasSubstr("does not authenticate itself")));
}

TEST_F(Parity, Connection_client_gives_up_on_a_silent_listener) {
  listener l;
  EXPECT_THAT([&] { carom::client(l.address(), key, 20ms); },
              ThrowsMessage<timeout_error>(HasSubstr("has it an authkey?")));
}

TEST_F(Parity, Connection_client_notices_a_listener_that_hangs_up) {
  listener l;
  std::thread hanging_up([&] { l.accept(); });
  EXPECT_THAT([&] { carom::client(l.address(), key, 30s); },
              ThrowsMessage<authentication_error>(HasSubstr("hung up")));
  hanging_up.join();
}

TEST_F(Parity, Connection_replayed_answer_is_refused) {
  listener l{{.authkey = key}};
  // What an honest client and the listener said to each other, as an eavesdropper has it.
  handshake honest(handshake::side::client, key, carom::runtime::fresh_nonce());
  std::string answer;
  {
    const stranger middle(l);
    EXPECT_THROW(l.accept(0ms), timeout_error);
    give(honest, middle.hear(challenge_size));
    answer = take(honest);
    ASSERT_EQ(answer.size(), answer_size);
    middle.say(answer);
    EXPECT_FALSE(l.accept(30s).closed()) << "the first time it is right";
  }
  const stranger replaying(l);
  EXPECT_THROW(l.accept(0ms), timeout_error);
  EXPECT_EQ(replaying.hear(challenge_size).size(), challenge_size);
  replaying.say(answer);
  EXPECT_THROW(l.accept(0ms), timeout_error);
  EXPECT_EQ(replaying.hear(100).size(), refusal_size);
  EXPECT_EQ(l.refused(), 1u);
  expect_honest_client_is_served(l);
}

TEST_F(Parity, Connection_replayed_challenge_and_welcome_do_not_convince_a_client) {
  handshake l(handshake::side::listener, key, carom::runtime::fresh_nonce());
  handshake first(handshake::side::client, key, carom::runtime::fresh_nonce());
  const std::string challenge = take(l);
  give(first, challenge);
  give(l, take(first));
  const std::string welcome = take(l);
  EXPECT_EQ(welcome.size(), welcome_size);
  give(first, welcome);
  EXPECT_EQ(first.now(), handshake::state::proved);

  handshake second(handshake::side::client, key, carom::runtime::fresh_nonce());
  give(second, challenge);
  EXPECT_EQ(take(second).size(), answer_size);
  give(second, welcome);
  EXPECT_EQ(second.now(), handshake::state::wrong_key);
}

TEST_F(Parity, Connection_reflected_challenge_is_refused) {
  listener l{{.authkey = key}};
  const stranger mirror(l);
  EXPECT_THROW(l.accept(0ms), timeout_error);
  const std::string challenge = mirror.hear(challenge_size);
  mirror.say(challenge);
  EXPECT_THROW(l.accept(0ms), timeout_error);
  EXPECT_EQ(mirror.hear(100).size(), refusal_size);
  expect_honest_client_is_served(l);
}

TEST_F(Parity, Connection_reflected_between_two_listeners_is_refused) {
  // The stranger lets one listener compute for another: both speak first, and none answers.
  listener one{{.authkey = key}}, two{{.authkey = key}};
  const stranger to_one(one), to_two(two);
  EXPECT_THROW(one.accept(0ms), timeout_error);
  EXPECT_THROW(two.accept(0ms), timeout_error);
  to_two.say(to_one.hear(challenge_size));
  to_one.say(to_two.hear(challenge_size));
  EXPECT_THROW(one.accept(0ms), timeout_error);
  EXPECT_THROW(two.accept(0ms), timeout_error);
  EXPECT_EQ(one.refused() + two.refused(), 2u);
}

TEST_F(Parity, Connection_client_reflects_nothing) {
  handshake c(handshake::side::client, key, carom::runtime::fresh_nonce());
  handshake l(handshake::side::listener, key, carom::runtime::fresh_nonce());
  give(c, take(l));
  const std::string answer = take(c);
  // Its own proof, as a welcome: the label is another.
  std::string welcome = answer.substr(0, 8) + answer.substr(40);
  welcome[5] = 3;
  welcome[6] = 32;
  give(c, welcome);
  EXPECT_EQ(c.now(), handshake::state::wrong_key);
  // Its own nonce, as a challenge.
  handshake again(handshake::side::client, key, {});
  std::string challenge = answer.substr(0, 8) + std::string(32, '\0');
  challenge[5] = 1;
  challenge[6] = 32;
  give(again, challenge);
  EXPECT_EQ(again.now(), handshake::state::foreign);
  EXPECT_TRUE(again.output().empty());
}

TEST_F(Parity, Connection_keys_that_differ_in_one_bit_differ) {
  for (const char* other : {"the right kez", "the right ke", "the right key ", "x"}) {
    handshake l(handshake::side::listener, key, carom::runtime::fresh_nonce());
    const authkey wrong(other);
    handshake c(handshake::side::client, wrong, carom::runtime::fresh_nonce());
    give(c, take(l));
    give(l, take(c));
    EXPECT_EQ(l.now(), handshake::state::wrong_key);
    give(c, take(l));
    EXPECT_EQ(c.now(), handshake::state::refused);
  }
}

TEST_F(Parity, Connection_oversized_first_message_is_refused_unread) {
  listener l{{.authkey = key}};
  const stranger large(l), announcing(l), speaking(l);
  std::string message(24, '\0');  // a frame of 1 GiB
  message.replace(0, 4, "cmsg");
  message[11] = 0x40;
  large.say(message + std::string(100'000, 'x'));
  announcing.say(std::string("caut\1\2\xff\xff", 8));
  speaking.say("GET / HTTP/1.1\r\n\r\n");
  const auto before = carom::test::resident_bytes(::getpid());
  EXPECT_THROW(l.accept(1ms), timeout_error);
  EXPECT_EQ(l.refused(), 3u);
  EXPECT_LT(carom::test::resident_bytes(::getpid()), before + (1u << 20));
  for (const auto* each : {&large, &announcing, &speaking})
    EXPECT_EQ(each->hear(1000).size(), challenge_size + refusal_size);
  expect_honest_client_is_served(l);
}

TEST_F(Parity, Connection_nothing_is_decoded_before_the_other_side_is_proved) {
  // A right frame with a value and a descriptor, from one who has not proved himself.
  listener l{{.authkey = key}};
  connection unproved = carom::client(l.address());
  unproved.send(carom::file_descriptor(::dup(0)));
  const auto before = carom::test::open_descriptors(::getpid());
  EXPECT_THROW(l.accept(1ms), timeout_error);
  EXPECT_EQ(l.refused(), 1u);
  EXPECT_LE(carom::test::open_descriptors(::getpid()), before) << "not even its descriptor came";
}

TEST_F(Parity, Connection_silent_peers_hold_up_nobody_and_are_dropped) {
  // Enough for the honest one on a slow machine.
  listener l{{.authkey = key, .handshake_timeout = 1s * carom::test::slowness}};
  const stranger silent(l), slow(l);
  slow.say("caut");
  expect_honest_client_is_served(l);
  while (l.refused() < 2) EXPECT_THROW(l.accept(10ms), timeout_error);
  EXPECT_EQ(silent.hear(1000).size(), challenge_size) << "and then it is closed";
}

TEST_F(Parity, Connection_who_was_in_time_is_not_dropped_because_accept_was_late) {
  listener l{{.authkey = key, .handshake_timeout = 1s}};
  const stranger honest(l);
  EXPECT_THROW(l.accept(0ms), timeout_error);
  handshake proof(handshake::side::client, key, carom::runtime::fresh_nonce());
  give(proof, honest.hear(challenge_size));
  honest.say(take(proof));
  carom::test::let_pass(1100ms);  // the server does something else
  EXPECT_FALSE(l.accept(0ms).closed());
  give(proof, honest.hear(welcome_size));
  EXPECT_EQ(proof.now(), handshake::state::proved);
}

TEST_F(Parity, Connection_a_thousand_half_open_connections) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit before = limit;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  {
    listener l{{.backlog = 64, .authkey = key, .max_handshakes = 100}};
    // They come from a process of their own, and stay.
    child flood([&] {
      std::vector<stranger> all;
      for (int i = 0; i < 1000; ++i) {
        all.emplace_back(l);
        if (i % 2) all.back().say("caut");
      }
      carom::test::board::set(0, 1);
      for (;;) ::pause();
    });
    EXPECT_THROW(l.accept(1ms), timeout_error);
    const auto memory = carom::test::resident_bytes(::getpid());
    while (!carom::test::board::get(0)) {
      EXPECT_THROW(l.accept(1ms), timeout_error);
      EXPECT_LT(carom::test::open_descriptors(::getpid()), 200u) << "bounded";
    }
    expect_honest_client_is_served(l);
    EXPECT_GE(l.refused(), 900u) << "the oldest were dropped";
    // A sanitizer's allocator gives back later.
    const std::size_t spare = carom::test::slowness > 1 ? 16u << 20 : 1u << 20;
    EXPECT_LT(carom::test::resident_bytes(::getpid()), memory + spare) << "memory is flat";
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(Parity, Connection_listener_without_free_descriptors_drops_the_half_open) {
  listener l{{.authkey = key}};
  child server([&] {
    const rlimit few{static_cast<rlim_t>(carom::test::open_descriptors(::getpid()) + 20), 100};
    ::setrlimit(RLIMIT_NOFILE, &few);
    connection c = l.accept(30s);
    if (c.recv<std::string>() != "honest") throw std::runtime_error("who is it?");
    if (l.refused() < 10) throw std::runtime_error("nobody was dropped");
  });
  std::vector<stranger> silent;
  for (int i = 0; i < 60; ++i) silent.emplace_back(l);
  carom::client(l.address(), key).send(std::string("honest"));
  EXPECT_EQ(server.join(), 0);
}

TEST_F(Parity, Connection_listener_with_a_full_table_serves_those_that_have_proved_themselves) {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  listener l{{.authkey = key}};
  constexpr int count = 8;
  std::vector<stranger> honest;
  std::vector<handshake> proofs;
  for (int i = 0; i < count; ++i) {
    honest.emplace_back(l);
    proofs.emplace_back(handshake::side::client, key, carom::runtime::fresh_nonce());
  }
  EXPECT_THROW(l.accept(0ms), timeout_error);
  for (std::size_t i = 0; i < count; ++i) {
    give(proofs[i], honest[i].hear(challenge_size));
    honest[i].say(take(proofs[i]));
  }
  const std::vector<stranger> more = [&] {
    std::vector<stranger> made;
    for (int i = 0; i < 3; ++i) made.emplace_back(l);
    return made;
  }();
  std::vector<unique_fd> filling;
  const rlimit few{carom::test::open_descriptors(::getpid()) + 8, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &few);
  for (unique_fd fd(::dup(0)); fd; fd.reset(::dup(0))) filling.push_back(std::move(fd));
  std::vector<connection> served;
  for (int i = 0; i < count; ++i) {
    served.push_back(l.accept(30s));
    served.back().send(i);
  }
  EXPECT_EQ(l.refused(), 0u);
  ::setrlimit(RLIMIT_NOFILE, &before);
  filling.clear();
  expect_honest_client_is_served(l);
}

TEST_F(Parity, Connection_client_that_dies_during_the_handshake_is_nothing) {
  listener l{{.authkey = key}};
  for (int i = 0; i < 20; ++i) {
    const stranger gone(l);
    if (i % 2) gone.say("caut\1");
    if (i % 3) {
      EXPECT_THROW(l.accept(0ms), timeout_error);
    }
  }
  expect_honest_client_is_served(l);
}

TEST_F(Parity, Connection_many_honest_clients_at_once) {
  listener l{{.authkey = key}};
  std::vector<child> clients;
  for (int i = 0; i < 20; ++i)
    clients.emplace_back([&, i] { carom::client(l.address(), key).send(i); });
  int sum = 0;
  for (int i = 0; i < 20; ++i) sum += l.accept(30s).recv<int>();
  EXPECT_EQ(sum, 190);
  for (auto& each : clients) EXPECT_EQ(each.join(), 0);
}

TEST_F(Parity, Connection_authkey_is_no_empty_secret) {
  EXPECT_TRUE(authkey().empty());
  EXPECT_THROW(authkey(std::string_view()), std::invalid_argument);
  EXPECT_THROW(authkey(std::span<const std::byte>()), std::invalid_argument);
  EXPECT_EQ(authkey::random().bytes().size(), 32u);
  EXPECT_NE(bytes_of(authkey::random().bytes()), bytes_of(authkey::random().bytes()));
  authkey copy = key;
  copy = authkey("other");
  EXPECT_EQ(bytes_of(copy.bytes()), "other");
  EXPECT_EQ(bytes_of(key.bytes()), "the right key");
  EXPECT_FALSE(can_be_printed<authkey>);
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// Processes are killed at random instants of every operation: whoever is left gets whole messages,
// then the end, and never waits for the dead.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <carom/connection.hpp>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/connection/child.hpp"
#include "tests/support/board.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using carom::authkey;
using carom::connection;
using carom::file_descriptor;
using carom::listener;
using carom::process_error;
using carom::test::child;
using namespace std::chrono_literals;
namespace board = carom::test::board;

int kills(int normally) { return std::getenv("CAROM_FULL") ? normally * 20 : normally; }

std::uint64_t seed() {
  const char* const chosen = std::getenv("CAROM_SEED");
  static const std::uint64_t one =
      chosen ? std::strtoull(chosen, nullptr, 10) : std::random_device()();
  return one;
}

/// A message that tells its number and is as its number says.
struct numbered {
  std::uint32_t number = 0;
  std::vector<std::uint32_t> filling{};

  static numbered make(std::uint32_t number, std::uint32_t round) {
    std::mt19937 random(number * 7919 + round);
    static constexpr std::size_t most[] = {1, 30, 1000, 30'000, 300'000};
    const std::size_t size = random() % most[random() % std::size(most)];
    numbered made{number, std::vector<std::uint32_t>(size)};
    for (std::size_t i = 0; i < size; ++i) made.filling[i] = number ^ static_cast<std::uint32_t>(i);
    return made;
  }
  bool right() const {
    for (std::size_t i = 0; i < filling.size(); ++i)
      if (filling[i] != (number ^ static_cast<std::uint32_t>(i))) return false;
    return true;
  }
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& number& filling;
  }
};

/// Kills a process after a random time, while its owner does something else.
class killer {
 public:
  killer(const child& victim, std::mt19937& random)
      : thread_([&victim, wait = std::chrono::nanoseconds(random() % 3'000'000)] {
          const auto end = std::chrono::steady_clock::now() + wait;
          while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
          victim.kill();
        }) {}
  ~killer() { thread_.join(); }

 private:
  std::thread thread_;
};

void expect_end(const process_error& error) {
  EXPECT_NE(std::strstr(error.what(), "the other end of the connection is closed"), nullptr)
      << error.what();
}

void receive_to_the_end(connection& c, std::uint32_t first = 0) {
  try {
    for (std::uint32_t next = first;; ++next) {
      const auto message = c.recv<numbered>();
      ASSERT_EQ(message.number, next);
      ASSERT_TRUE(message.right());
    }
  } catch (const process_error& error) {
    expect_end(error);
  }
  EXPECT_TRUE(c.at_end());
}

/// Seeded, and says by what.
std::mt19937 seeded() {
  std::cout << "seed " << seed() << ": CAROM_SEED repeats it" << std::endl;
  return std::mt19937(static_cast<std::mt19937::result_type>(seed()));
}

/// The other process, which has `its` end only.
template <class F>
child other_process(connection& mine, connection& its, F body) {
  child made([&] {
    mine.close();
    body(its);
  });
  its.close();
  return made;
}

TEST_F(Parity, Connection_killed_while_it_sends) {
  std::mt19937 random = seeded();
  for (int kill = 0; kill < kills(150); ++kill) {
    auto [mine, its] = carom::pipe(kill % 2);
    connection &reader = mine, &writer = its;
    const child sender = other_process(reader, writer, [&](connection& c) {
      for (std::uint32_t i = 0;; ++i) c.send(numbered::make(i, static_cast<std::uint32_t>(kill)));
    });
    const killer after_a_while(sender, random);
    receive_to_the_end(reader);
    if (HasFatalFailure()) return;
  }
}

TEST_F(Parity, Connection_killed_while_it_receives) {
  std::mt19937 random = seeded();
  for (int kill = 0; kill < kills(150); ++kill) {
    auto [mine, its] = carom::pipe();
    connection &writer = mine, &reader = its;
    const child receiver = other_process(writer, reader, [](connection& c) {
      for (std::uint32_t next = 0;; ++next)
        if (const auto got = c.recv<numbered>(); got.number != next || !got.right())
          board::set(1, 1);
    });
    const killer after_a_while(receiver, random);
    try {
      for (std::uint32_t i = 0;; ++i)
        writer.send(numbered::make(i, static_cast<std::uint32_t>(kill)));
    } catch (const process_error& error) {
      expect_end(error);
    }
    EXPECT_EQ(board::get(1), 0u) << "what a receiver got was right until it was killed";
    EXPECT_TRUE(writer.at_end());
  }
}

/// Sends back what it gets, until it is killed in the middle of that.
void kill_echoes(void (*echo_once)(connection&)) {
  std::mt19937 random = seeded();
  std::vector<std::byte> buffer(4 << 20);
  for (int kill = 0; kill < kills(100); ++kill) {
    auto [mine, its] = carom::pipe();
    connection &host = mine, &peer = its;
    const child echo = other_process(host, peer, [&](connection& c) {
      for (;;) echo_once(c);
    });
    const killer after_a_while(echo, random);
    try {
      for (std::uint32_t i = 0;; ++i) {
        const auto sent = numbered::make(i, static_cast<std::uint32_t>(kill)).filling;
        const auto bytes = std::as_bytes(std::span(sent));
        host.send_bytes(bytes);
        const std::size_t size = host.recv_bytes_into(buffer);
        ASSERT_EQ(size, bytes.size());
        ASSERT_TRUE(size == 0 || std::memcmp(buffer.data(), bytes.data(), size) == 0);
      }
    } catch (const process_error& error) {
      expect_end(error);
    }
  }
}

TEST_F(Parity, Connection_killed_while_it_answers) {
  kill_echoes([](connection& c) { c.send_bytes(c.recv_bytes()); });
}

TEST_F(Parity, Connection_killed_while_it_answers_out_of_a_buffer) {
  kill_echoes([](connection& c) {
    static std::vector<std::byte> buffer(2 << 20);
    constexpr std::size_t offset = 5;
    const std::size_t size = c.recv_bytes_into(buffer, offset);
    c.send_bytes(buffer, offset, size);
  });
}

TEST_F(Parity, Connection_killed_while_it_sends_descriptors) {
  std::mt19937 random = seeded();
  const file_descriptor file(::memfd_create("sent", MFD_CLOEXEC));
  struct stat expected {};
  ::fstat(file.get(), &expected);
  for (int kill = 0; kill < kills(60); ++kill) {
    auto [mine, its] = carom::pipe();
    connection &host = mine, &peer = its;
    const child sender = other_process(host, peer, [&](connection& c) {
      std::vector<file_descriptor> many;
      for (std::size_t i = 0; i < 300; ++i) many.push_back(file_descriptor::duplicate(file.get()));
      for (;;) {
        auto [near, far] = carom::pipe();
        near.send(7);
        c.send(std::tuple(std::move(far), std::move(near)));
        c.send(many);
      }
    });
    const killer after_a_while(sender, random);
    try {
      for (;;) {
        auto [far, near] = host.recv<std::tuple<connection, connection>>();
        ASSERT_EQ(far.recv<int>(), 7);
        const auto many = host.recv<std::vector<file_descriptor>>();
        ASSERT_EQ(many.size(), 300u);
        for (const auto& each : many) {
          struct stat found {};
          ::fstat(each.get(), &found);
          ASSERT_EQ(found.st_ino, expected.st_ino);
        }
      }
    } catch (const process_error& error) {
      expect_end(error);
    }
  }
}

TEST_F(Parity, Connection_killed_during_the_handshake) {
  std::mt19937 random = seeded();
  const authkey key = authkey::random();
  listener l{{.authkey = key}};
  for (int kill = 0; kill < kills(60); ++kill) {
    const child victim([&] {
      for (;;) carom::client(l.address(), key).send(std::string("victim"));
    });
    const child honest([&] { carom::client(l.address(), key).send(std::string("honest")); });
    const killer after_a_while(victim, random);
    for (;;) {
      connection c = l.accept(30s);
      std::string who;
      try {
        who = c.recv<std::string>();
      } catch (const process_error& error) {
        expect_end(error);  // a victim, killed before it sent
        continue;
      }
      if (who == "honest") break;
      ASSERT_EQ(who, "victim");
    }
  }
}

TEST_F(Parity, Connection_killed_listeners_leave_their_clients_an_error) {
  std::mt19937 random = seeded();
  const authkey key = authkey::random();
  for (int kill = 0; kill < kills(60); ++kill) {
    listener l{{.family = carom::address_family::internet, .authkey = key}};
    const child server([&] {
      for (;;) l.accept().send(1);
    });
    const auto address = l.address();
    {
      // Only the server has the socket now.
      const killer after_a_while(server, random);
      l.close();
      try {
        for (;;) {
          connection c = carom::client(address, key, 30s);
          ASSERT_EQ(c.recv<int>(), 1);
        }
      } catch (const carom::timeout_error&) {
        FAIL() << "a client waited for the dead";
      } catch (const process_error&) {
      } catch (const std::system_error&) {
      }
    }
  }
}

TEST_F(Parity, Connection_acceptors_that_share_a_listener_outlive_each_other) {
  std::mt19937 random = seeded();
  const authkey key = authkey::random();
  listener l{{.authkey = key}};
  const auto serve = [](listener& shared) {
    for (;;) shared.accept().send(::getpid());
  };
  std::vector<child> acceptors;
  for (int i = 0; i < 3; ++i) acceptors.emplace_back([&] { serve(l); });
  int served = 0;
  for (int kill = 0; kill < kills(60); ++kill) {
    const std::size_t victim = random() % acceptors.size();
    acceptors[victim].kill();
    for (int i = 0; i < 3; ++i) {
      try {
        // A client of the one that dies gets an error; the next is served.
        connection c = carom::client(l.address(), key, 30s);
        c.recv<pid_t>();
        ++served;
      } catch (const process_error& error) {
        ASSERT_EQ(dynamic_cast<const carom::timeout_error*>(&error), nullptr) << error.what();
      }
    }
    acceptors[victim] = child([&] { serve(l); });
  }
  EXPECT_GT(served, kills(60)) << "two of three clients at least";
}

}  // namespace

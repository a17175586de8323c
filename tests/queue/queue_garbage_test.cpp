// SPDX-License-Identifier: BSL-1.0
// Clients that break every rule: the host and the honest ones do not notice.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <carom/log.hpp>
#include <carom/queue.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/queue_page.hpp"
#include "runtime/result_ring.hpp"
#include "runtime/segment.hpp"
#include "runtime/task_ring.hpp"
#include "serialization/queue_messages.hpp"
#include "tests/queue/queue_support.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using namespace carom::runtime;
using carom::serialization::pack_queue_message;
using carom::serialization::queue_message;
using carom::serialization::queue_message_kind;

/// The door that a handle travels with.
template <class T>
channel door_of(const carom::queue<T>& q) {
  carom::detail::blob packed;
  carom::detail::encode(packed, q);
  return channel(
      unique_fd(::fcntl(packed.find_descriptors()->entries()[0].fd, F_DUPFD_CLOEXEC, 3)));
}

/// A client by hand.
struct raw_client {
  unique_fd memory = make_shared_memory("raw", sizeof(queue_page));
  mapping at{memory.get(), sizeof(queue_page), mapping::access::read_write};
  channel mine;
  queue_page& page() { return *reinterpret_cast<queue_page*>(at.data()); }

  raw_client(channel& door, bool bounded) {
    auto [here, there] = channel::make_pair();
    mine = std::move(here);
    page().magic = queue_page_magic;
    page().puts.store(put_word{0, bounded ? 0 : unbounded_grant}.word());
    const unique_fd self = open_pidfd(::getpid());
    const std::array<int, 3> fds{memory.get(), there.fd(), self.get()};
    EXPECT_FALSE(door.send(pack_queue_message({.kind = queue_message_kind::knock}), fds, true));
  }
  void ring() { (void)mine.send(pack_queue_message({.kind = queue_message_kind::look})); }
  /// Whether the host has closed its end.
  bool ended() {
    message received;
    for (;;) {
      const auto error = mine.receive(received);
      if (error) return error != std::errc::operation_would_block;
    }
  }
};

class quiet_log {
 public:
  quiet_log() : before_(carom::log()->level()) { carom::log()->set_level(spdlog::level::off); }
  ~quiet_log() { carom::log()->set_level(before_); }

 private:
  spdlog::level::level_enum before_;
};

void expect_works(carom::queue<int>& q) {
  static int next = 0;
  const int first = next;
  for (int i = 0; i < 3; ++i) q.put(next++, 20s);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(q.get(20s), first + i);
}

TEST_F(Parity, Queue_garbage_at_the_door) {
  const quiet_log quiet;
  carom::queue<int> q;
  channel door = door_of(q);
  std::mt19937_64 dice(carom::test::seed());
  ::send(door.fd(), "", 0, MSG_NOSIGNAL);  // an empty message is no end
  for (int round = 0; round < 300; ++round) {
    std::vector<std::byte> bytes(1 + dice() % 60);
    for (auto& byte : bytes) byte = static_cast<std::byte>(dice());
    if (round % 2) bytes = pack_queue_message({.kind = queue_message_kind::knock});
    std::vector<int> fds(dice() % 5, STDERR_FILENO);
    (void)door.send(bytes, fds, true);
    if (round % 30 == 0) expect_works(q);
  }
  // A page that can shrink, one that is too small, one of no client of ours.
  for (const int kind : {0, 1, 2}) {
    unique_fd page(::memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(page.get(), kind == 1 ? 4096 : sizeof(queue_page)), 0);
    if (kind != 0) {
      ASSERT_EQ(::fcntl(page.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    }
    auto [here, there] = channel::make_pair();
    const unique_fd self = open_pidfd(::getpid());
    const std::array<int, 3> fds{page.get(), there.fd(), self.get()};
    ASSERT_FALSE(door.send(pack_queue_message({.kind = queue_message_kind::knock}), fds, true));
    there = {};
    message received;
    EXPECT_EQ(here.receive(received, true), channel_errc::end_of_file) << "it is not let in";
  }
  expect_works(q);
}

TEST_F(Parity, Queue_garbage_counts_end_the_client) {
  const quiet_log quiet;
  for (const std::int64_t maxsize : {0, 5}) {
    carom::queue<int> q(maxsize);
    expect_works(q);
    channel door = door_of(q);
    const auto ends = [&](const std::function<void(raw_client&)>& breaks) {
      raw_client bad(door, maxsize != 0);
      expect_works(q);  // it is in
      breaks(bad);
      bad.ring();
      EXPECT_TRUE(carom::test::eventually([&] { return bad.ended(); }));
      expect_works(q);
    };
    // More put than the ring holds, than is allowed, than before.
    ends([](raw_client& c) { c.page().puts.fetch_add(ring_slots + 1); });
    ends([](raw_client& c) { c.page().puts.fetch_sub(1); });
    ends([](raw_client& c) { c.page().puts.fetch_add(std::uint64_t{1} << 32 | 1); });
    if (maxsize != 0) ends([](raw_client& c) { c.page().puts.fetch_add(1); });
    // More taken than was delivered.
    ends([](raw_client& c) {
      c.page().rings.header.task_head.store(7);
      c.page().item_wants.store(demand_word{1, 1}.word());
    });
    if (maxsize == 0) {
      // Items whose bytes, descriptors or memory are not there.
      ends([](raw_client& c) {
        c.page().rings.results[0] = {0, ring_bytes - 1, 100, 0, 0, 0, 0};
        c.page().puts.fetch_add(1);
      });
      ends([](raw_client& c) {
        c.page().rings.results[0] = {0, 0, UINT64_MAX, 0, 0, 0, 0};
        c.page().puts.fetch_add(1);
      });
      ends([](raw_client& c) {
        c.page().rings.results[0] = {0, 0, 4, 99, 0, 0, 0};
        c.page().puts.fetch_add(1);
      });
      ends([](raw_client& c) {
        c.page().rings.results[0] = {0, 0, 4, 0, flag_descriptors, 77, 0};
        c.page().puts.fetch_add(1);
      });
      ends([](raw_client& c) {
        const unique_fd tiny(::memfd_create("tiny", MFD_CLOEXEC));
        const int fd = tiny.get();
        queue_message told{.kind = queue_message_kind::descriptors, .id = 5, .tickets = {0}};
        (void)c.mine.send(pack_queue_message(told), std::span(&fd, 1));
        c.page().rings.results[0] = {0, 0, std::uint64_t{1} << 40, 0, flag_segment, 5, 0};
        c.page().puts.fetch_add(1);
      });
    }
    // Messages that no client sends.
    ends([](raw_client& c) {
      const std::array<std::byte, 3> bytes{std::byte{200}, std::byte{1}, std::byte{2}};
      (void)c.mine.send(bytes);
    });
    ends([](raw_client& c) {
      (void)c.mine.send(pack_queue_message({.kind = queue_message_kind::reply, .id = 1}));
    });
  }
}

TEST_F(Parity, Queue_garbage_client_takes_no_item_twice) {
  const quiet_log quiet;
  carom::queue<int> q;
  channel door = door_of(q);
  raw_client bad(door, false);
  bad.page().item_wants.store(demand_word{3, 1}.word());
  bad.ring();
  for (int i = 0; i < 3; ++i) q.put(i);
  auto& header = bad.page().rings.header;
  ASSERT_TRUE(carom::test::eventually([&] { return header.task_tail.load() == 3; }));
  EXPECT_EQ(q.qsize(), 3u) << "nothing is taken yet";
  // It takes the first by the rules, and breaks them.
  task_consumer consumer(bad.page().rings);
  ASSERT_NE(consumer.claim(0), nullptr);
  header.task_head.store(99);
  bad.page().item_wants.store(demand_word{0, 2}.word());
  bad.ring();
  EXPECT_EQ(q.get(20s), 1);
  EXPECT_EQ(q.get(20s), 2);
  EXPECT_TRUE(q.empty());
  EXPECT_TRUE(carom::test::eventually([&] { return bad.ended(); }));
}

TEST_F(Parity, Queue_garbage_client_that_never_reads) {
  const quiet_log quiet;
  carom::queue<int> q;
  channel door = door_of(q);
  raw_client bad(door, false);
  const auto ask = pack_queue_message({.kind = queue_message_kind::size, .id = 1});
  // The host closes it in the end; before that its channel may be full for a moment.
  EXPECT_TRUE(carom::test::eventually([&] {
    std::error_code error;
    for (int i = 0; i < 1000 && !error; ++i) error = bad.mine.send(ask);
    return error == channel_errc::end_of_file;
  }));
  expect_works(q);
}

TEST_F(Parity, Queue_garbage_everywhere) {
  const quiet_log quiet;
  std::mt19937_64 dice(carom::test::seed());
  for (const std::int64_t maxsize : {0, 4}) {
    carom::queue<int> q(maxsize);
    channel door = door_of(q);
    std::vector<std::unique_ptr<raw_client>> bad;
    const int rounds = std::getenv("CAROM_FULL") ? 20'000 : 1000;
    for (int round = 0; round < rounds; ++round) {
      if (bad.size() < 4) bad.push_back(std::make_unique<raw_client>(door, maxsize != 0));
      raw_client& one = *bad[dice() % bad.size()];
      queue_page& page = one.page();
      switch (dice() % 8) {
        case 0:
          page.item_wants.store(demand_word{1, static_cast<std::uint32_t>(dice())}.word());
          break;
        case 1: page.room_wants.store(dice()); break;
        case 2: page.rings.header.task_head.store(dice() % 4); break;
        case 3: page.puts.store(dice()); break;
        case 4: page.rings.tasks[dice() % ring_slots].claim.store(dice() % 64); break;
        case 5: {
          std::vector<std::byte> bytes(1 + dice() % 40);
          for (auto& byte : bytes) byte = static_cast<std::byte>(dice() % 16);
          const int fd = STDERR_FILENO;
          (void)one.mine.send(bytes, std::span(&fd, dice() % 2));
          break;
        }
        case 6: page.rings.header.worker_waits.store(static_cast<std::uint32_t>(dice() % 3)); break;
        case 7: page.item_wants.store(0); break;
      }
      one.ring();
      if (dice() % 10 == 0)
        bad.erase(bad.begin() + static_cast<std::ptrdiff_t>(dice() % bad.size()));
      if (round % 20 != 0) continue;
      // What garbage clients were given they may have taken; what they put is in the way.
      bad.clear();
      try {
        while (true) (void)q.get_nowait();
      } catch (const carom::queue_empty&) {
      } catch (const carom::encoding_error&) {
      }
      while (!q.empty()) {
        try {
          (void)q.get(20s);
        } catch (const carom::encoding_error&) {
        }
      }
      expect_works(q);
      if (HasFatalFailure()) return;
    }
  }
}

/// It says goodbye and goes on putting, faster than the host takes in.
TEST_F(Parity, Queue_client_that_goes_on_putting_behind_its_leave_is_let_go) {
  const quiet_log quiet;
  carom::queue<int> q;
  channel door = door_of(q);
  raw_client bad(door, false);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> puts{0};
  std::thread flood([&] {
    result_producer ring(bad.page().rings);
    carom::detail::blob item;
    carom::detail::encode(item, 1);
    result_frame frame{};
    frame.payload = item.bytes();
    while (!stop) {
      if (!ring.write(frame)) continue;
      auto& word = bad.page().puts;
      std::uint64_t found = word.load();
      // Whether there is room or not, it says that the item is there.
      while (!word.compare_exchange_weak(
          found, put_word{put_word::of(found).tail + 1, put_word::of(found).limit}.word())) {
      }
      if (put_word::of(found).left() == 0) break;
      if (++puts % 16 == 0) bad.ring();
    }
  });
  while (puts < 1000) std::this_thread::yield();
  EXPECT_FALSE(bad.mine.send(pack_queue_message({.kind = queue_message_kind::leave})));
  EXPECT_TRUE(carom::test::eventually([&] { return bad.ended(); }));
  EXPECT_GE(q.qsize(), 1000u);
  EXPECT_EQ(q.get(20s), 1);
  stop = true;
  flood.join();
}

TEST(QueueMessages, any_bytes_are_a_message_or_none) {
  std::mt19937_64 dice(7);
  for (int i = 0; i < 100'000; ++i) {
    std::vector<std::byte> bytes(dice() % 200);
    for (auto& byte : bytes) byte = static_cast<std::byte>(dice() % 20);
    if (const auto message = carom::serialization::unpack_queue_message(bytes)) {
      EXPECT_EQ(pack_queue_message(*message), bytes);
    }
  }
}

}  // namespace

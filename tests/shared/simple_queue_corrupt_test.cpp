// SPDX-License-Identifier: BSL-1.0
// Somebody writes over a queue's memory, or sends something else in its place: typed errors, never
// a crash, a hang, or a read out of bounds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/shared.hpp>
#include <carom/simple_queue.hpp>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/item_ring.hpp"
#include "tests/shared/handles.hpp"
#include "tests/shared/kills.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using namespace carom::test;
using carom::simple_queue;
using carom::runtime::item_ring;
using carom::runtime::item_ring_header;
using testing::HasSubstr;

/// A queue whose memory lies open, as another process has it.
template <class T>
class opened {
 public:
  explicit opened(std::size_t capacity = 4096) : queue({.capacity = capacity}) {
    carom::detail::encode(packed_, queue);
    size_ = item_ring::header_size + capacity;
    memory_ = static_cast<std::byte*>(::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED,
                                             packed_.find_descriptors()->entries()[0].fd, 0));
  }
  ~opened() { ::munmap(memory_, size_); }

  item_ring_header& header() { return *reinterpret_cast<item_ring_header*>(memory_); }
  std::byte* ring() { return memory_ + item_ring::header_size; }
  int socket(bool out) { return packed_.find_descriptors()->entries()[out ? 2 : 1].fd; }

  simple_queue<T> queue;

 private:
  carom::detail::blob packed_;
  std::byte* memory_;
  std::size_t size_;
};

TEST_F(Parity, Queue_simple_corrupt_positions) {
  for (const std::uint64_t delta : {std::uint64_t{4104}, std::uint64_t{1}, ~std::uint64_t{7}}) {
    opened<int> put_side, get_side;
    put_side.queue.put(1);
    get_side.queue.put(1);
    put_side.header().seen_head = put_side.header().tail - delta;
    EXPECT_THAT(message_of([&] { put_side.queue.put(2); }), HasSubstr("corrupt"));
    get_side.header().seen_tail = 0;
    get_side.header().tail = get_side.header().head + delta;
    EXPECT_THAT(message_of([&] { get_side.queue.get(); }), HasSubstr("corrupt"));
    // For everybody, from then on: nobody is left waiting.
    EXPECT_THAT(message_of([&] { sent(get_side.queue).put(3); }), HasSubstr("make a new queue"));
    EXPECT_THAT(message_of([&] { sent(put_side.queue).get(); }), HasSubstr("corrupt"));
  }
}

TEST_F(Parity, Queue_simple_corrupt_frames) {
  for (const std::uint32_t size : {4096u, 0xffffffffu}) {
    opened<std::string> at;
    at.queue.put("x");
    std::memcpy(at.ring(), &size, sizeof size);
    EXPECT_THAT(message_of([&] { at.queue.get(); }), HasSubstr("corrupt"));
  }
  opened<std::string> longer;
  longer.queue.put("x");
  longer.ring()[0] = std::byte{10};
  EXPECT_THROW(longer.queue.get(), carom::encoding_error);
  opened<std::string> kind;
  kind.queue.put("x");
  kind.ring()[4] ^= std::byte{0x40};
  EXPECT_THAT(message_of([&] { kind.queue.get(); }), HasSubstr("corrupt"));
}

TEST_F(Parity, Queue_simple_corrupt_large_items) {
  opened<std::string> at;
  at.queue.put(std::string(3000, 'x'));
  const std::uint64_t size = std::uint64_t{1} << 40;
  std::memcpy(at.ring() + 16, &size, sizeof size);
  EXPECT_THROW(at.queue.get(), carom::encoding_error);
  at.queue.put(std::string(3000, 'y'));
  EXPECT_EQ(at.queue.get(), std::string(3000, 'y')) << "it concerns that item only";
}

TEST_F(Parity, Queue_simple_lost_and_foreign_messages) {
  opened<carom::file_descriptor> at;
  const auto file = [] { return carom::file_descriptor(::memfd_create("x", MFD_CLOEXEC)); };
  ASSERT_EQ(::send(at.socket(false), "junk", 4, 0), 4);
  at.queue.put(file());
  EXPECT_TRUE(at.queue.get()) << "what belongs to no item is dropped";
  at.queue.put(file());
  at.queue.put(file());
  char bytes[4096];
  ASSERT_GT(::recv(at.socket(true), bytes, sizeof bytes, 0), 0);
  EXPECT_THROW(at.queue.get(), carom::encoding_error) << "its descriptor was stolen";
  EXPECT_TRUE(at.queue.get()) << "the next one's was not";
}

TEST_F(Parity, Queue_simple_anything_may_be_written_anywhere) {
  seeded random;
  const int rounds = kills(300, 10'000);
  for (int round = 0; round < rounds; ++round) {
    opened<std::pair<std::string, carom::file_descriptor>> at;
    const auto attempt = [&](auto f) {
      try {
        f();
      } catch (const carom::error&) {
      } catch (const std::bad_alloc&) {
      }
    };
    std::byte* const begin = at.ring() - item_ring::header_size;
    for (int step = 0; step < 20; ++step) {
      attempt([&] {
        at.queue.put({std::string(random.below(2000), 'x'), carom::file_descriptor(::dup(0))}, 0ms);
      });
      // Anything but the locks, whose owners the C library finds by pointers in them.
      const std::uint64_t word = random.below(2) ? random.below(~0ull) : random.below(5000);
      const std::size_t offset = random.below(item_ring::header_size + 4096 - 8);
      const auto touches = [&](const auto& member) {
        const auto from = reinterpret_cast<const std::byte*>(&member) - begin;
        return static_cast<long>(offset) + 8 > from &&
               static_cast<long>(offset) < from + static_cast<long>(sizeof member);
      };
      if (!touches(at.header().put_lock) && !touches(at.header().get_lock))
        std::memcpy(begin + offset, &word, sizeof word);
      attempt([&] { at.queue.get(0ms); });
    }
  }
}

TEST_F(Parity, Queue_simple_wrong_memory_is_refused) {
  carom::value<int> v;
  EXPECT_THROW((sent_as<simple_queue<int>>(v.get_obj())), carom::encoding_error);
  opened<int> at;
  at.header().magic = 0;
  EXPECT_THROW(sent(at.queue), carom::encoding_error);
  // Its memory, but no sockets.
  opened<int> other;
  carom::detail::blob packed;
  carom::detail::byte_writer out(packed);
  carom::detail::blob whole;
  carom::detail::encode(whole, other.queue);
  const int memory = whole.find_descriptors()->entries()[0].fd;
  for (int i = 0; i < 3; ++i) out.put_descriptor(memory);
  const carom::detail::descriptor_scope in_reach(packed.find_descriptors());
  EXPECT_THROW(carom::detail::decode<simple_queue<int>>(packed.bytes()), carom::encoding_error);
}

}  // namespace

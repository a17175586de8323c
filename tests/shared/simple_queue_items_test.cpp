// SPDX-License-Identifier: BSL-1.0
// What simple_queue carries: items of every size and kind, and the descriptors in them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <carom/errors.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/simple_queue.hpp>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/shared/handles.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using carom::simple_queue;
using carom::test::forked;
using carom::test::message_of;

carom::file_descriptor file_with(int number) {
  carom::file_descriptor made(::memfd_create("item", MFD_CLOEXEC));
  if (::write(made.get(), &number, sizeof number) != sizeof number) throw std::bad_alloc();
  return made;
}

int number_in(const carom::file_descriptor& file) {
  int number = -1;
  return ::pread(file.get(), &number, sizeof number, 0) == sizeof number ? number : -1;
}

TEST_F(Parity, Queue_simple_takes_what_serializes) {
  simple_queue<std::map<std::string, std::vector<double>>> queue;
  const std::map<std::string, std::vector<double>> item{{"a", {1, 2.5}}, {"", {}}};
  queue.put(item);
  queue.put({});
  EXPECT_EQ(queue.get(), item);
  EXPECT_TRUE(queue.get().empty());
}

TEST_F(Parity, Queue_simple_items_of_all_sizes) {
  simple_queue<std::string> queue({.capacity = 4096});
  forked producer([&] {
    for (std::size_t size = 0; size < 3000; ++size)
      queue.put(std::string(size, static_cast<char>('a' + size % 26)));
    return true;
  });
  for (std::size_t size = 0; size < 3000; ++size)
    ASSERT_EQ(queue.get(30s), std::string(size, static_cast<char>('a' + size % 26)));
  EXPECT_TRUE(producer.succeeded());
}

TEST_F(Parity, Queue_simple_large_items) {
  simple_queue<std::string> queue;
  const std::size_t size = std::getenv("CAROM_FULL") ? std::size_t{3} << 30 : std::size_t{40} << 20;
  forked producer([&] {
    std::string item(size, 'x');
    item.back() = 'y';
    queue.put(item);
    queue.put("small");
    return true;
  });
  {
    const std::string item = queue.get();
    EXPECT_EQ(item.size(), size);
    EXPECT_EQ(item.back(), 'y');
    EXPECT_EQ(item.find_first_not_of('x'), size - 1);
  }
  EXPECT_EQ(queue.get(), "small");
  EXPECT_TRUE(producer.succeeded());
}

TEST_F(Parity, Queue_simple_items_with_descriptors) {
  simple_queue<std::vector<carom::file_descriptor>> queue;
  forked producer([&] {
    for (int i = 0; i < 200; ++i) {
      std::vector<carom::file_descriptor> item;
      for (int k = 0; k < i % 4; ++k) item.push_back(file_with(10 * i + k));
      queue.put(item);
    }
    return true;
  });
  for (int i = 0; i < 200; ++i) {
    const auto item = queue.get(30s);
    ASSERT_EQ(item.size(), static_cast<std::size_t>(i % 4));
    for (int k = 0; k < i % 4; ++k) {
      EXPECT_EQ(number_in(item[static_cast<std::size_t>(k)]), 10 * i + k);
      EXPECT_TRUE(::fcntl(item[static_cast<std::size_t>(k)].get(), F_GETFD) & FD_CLOEXEC);
    }
  }
  EXPECT_TRUE(producer.succeeded());
}

TEST_F(Parity, Queue_simple_large_items_with_descriptors) {
  simple_queue<std::pair<std::string, carom::file_descriptor>> queue;
  const std::string large(700'000, 'z');
  queue.put({large, file_with(5)});
  const auto [text, file] = queue.get();
  EXPECT_EQ(text, large);
  EXPECT_EQ(number_in(file), 5);
}

TEST_F(Parity, Queue_simple_of_queues) {
  simple_queue<simple_queue<int>> mailboxes;
  forked server([&] {
    for (int i = 0; i < 3; ++i) mailboxes.get().put(i);
    return true;
  });
  for (int i = 0; i < 3; ++i) {
    simple_queue<int> reply;
    mailboxes.put(reply);
    EXPECT_EQ(reply.get(30s), i);
  }
  EXPECT_TRUE(server.succeeded());
}

TEST_F(Parity, Queue_simple_descriptors_have_a_limit) {
  simple_queue<std::vector<carom::file_descriptor>> queue;
  std::vector<carom::file_descriptor> most, more;
  for (int i = 0; i < 250; ++i) most.push_back(file_with(i));
  EXPECT_NO_THROW(queue.put(most));
  most.push_back(file_with(250));
  EXPECT_THROW(queue.put(most), carom::encoding_error);
  EXPECT_EQ(queue.get().size(), 250u);
}

TEST_F(Parity, Queue_simple_is_full_of_descriptors_before_its_ring_is) {
  simple_queue<carom::file_descriptor> queue;
  int waiting = 0;
  const auto fill = [&] {
    try {
      for (;; ++waiting) queue.put_nowait(file_with(waiting));
    } catch (const carom::queue_full&) {
    }
  };
  fill();
  EXPECT_GE(waiting, 50);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(number_in(queue.get()), i);
  const int before = waiting;
  fill();
  EXPECT_GT(waiting, before) << "what is taken makes room";
  for (int i = 10; i < waiting; ++i) ASSERT_EQ(number_in(queue.get()), i);
  EXPECT_TRUE(queue.empty());
}

TEST_F(Parity, Queue_simple_payloads) {
  simple_queue<std::string> queue;
  queue.put("seven");
  const std::vector<std::byte> packed = queue.get_payload();
  queue.send_payload(packed);
  EXPECT_EQ(queue.get(), "seven");
  const std::vector<std::byte> large(1 << 20, std::byte{3});
  queue.send_payload(large);
  EXPECT_EQ(queue.get_payload(), large);
  queue.send_payload({});
  EXPECT_TRUE(queue.get_payload().empty());
  EXPECT_THROW(queue.get_payload(1ms), carom::queue_empty);
}

TEST_F(Parity, Queue_simple_an_item_that_cannot_be_unpacked_concerns_itself_only) {
  simple_queue<std::string> queue;
  const std::byte junk[3]{};
  queue.send_payload(junk);
  queue.put("next");
  EXPECT_THROW(queue.get(), carom::encoding_error);
  EXPECT_EQ(queue.get(), "next");
}

struct refuses {
  template <class Archive>
  void serialize(Archive&, unsigned) {
    throw std::runtime_error("no");
  }
};

TEST_F(Parity, Queue_simple_an_item_that_cannot_be_packed_is_not_put) {
  simple_queue<refuses> queue;
  EXPECT_THROW(queue.put(refuses{}), carom::encoding_error);
  EXPECT_TRUE(queue.empty());
}

TEST_F(Parity, Queue_simple_move_only_items) {
  simple_queue<std::unique_ptr<int>> queue;
  queue.put(std::make_unique<int>(4));
  EXPECT_EQ(*queue.get(), 4);
}

TEST_F(Parity, Queue_simple_gives_away_what_is_moved_in) {
  simple_queue<std::vector<carom::file_descriptor>> queue;
  std::vector<carom::file_descriptor> kept, given;
  kept.push_back(file_with(1));
  given.push_back(file_with(2));
  queue.put(kept);
  queue.put(std::move(given));
  EXPECT_TRUE(given.empty());
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(number_in(kept[0]), 1);
  EXPECT_EQ(number_in(queue.get()[0]), 1);
  EXPECT_EQ(number_in(queue.get()[0]), 2);
  queue.close();
  EXPECT_THROW(queue.put(std::move(kept)), carom::process_error);
  EXPECT_EQ(kept.size(), 1u) << "it has not been put";
}

TEST_F(Parity, Queue_simple_full_table_of_descriptors_loses_no_item) {
  simple_queue<carom::file_descriptor> queue;
  queue.put(file_with(8));
  std::vector<int> taken;
  for (int fd; (fd = ::fcntl(0, F_DUPFD_CLOEXEC, 3)) >= 0;) taken.push_back(fd);
  // No process_error: the queue itself is as it should be.
  EXPECT_THAT([&] { queue.get(); },
              testing::ThrowsMessage<std::system_error>(testing::HasSubstr("RLIMIT_NOFILE")));
  for (const int fd : taken) ::close(fd);
  EXPECT_EQ(number_in(queue.get()), 8);
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// simple_queue: the row of api.md, within one process and its forked copies.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <carom/errors.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/simple_queue.hpp>
#include <chrono>
#include <cstdlib>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/shared/handles.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using carom::simple_queue;
using carom::test::forked;
using carom::test::message_of;
using carom::test::sent;
namespace board = carom::test::board;

carom::file_descriptor file_with(int number) {
  carom::file_descriptor made(::memfd_create("item", MFD_CLOEXEC));
  if (::write(made.get(), &number, sizeof number) != sizeof number) throw std::bad_alloc();
  return made;
}

int number_in(const carom::file_descriptor& file) {
  int number = -1;
  return ::pread(file.get(), &number, sizeof number, 0) == sizeof number ? number : -1;
}

TEST_F(Parity, Queue_simple_that_was_moved_from_is_still_the_same) {
  simple_queue<int> q;
  simple_queue<int> moved = std::move(q);
  moved.put(1);
  EXPECT_EQ(q.get(), 1);
}

TEST_F(Parity, Queue_simple_is_first_in_first_out) {
  simple_queue<int> queue;
  EXPECT_TRUE(queue.empty());
  for (int i = 0; i < 1000; ++i) queue.put(i);
  EXPECT_FALSE(queue.empty());
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(queue.get(), i);
  EXPECT_TRUE(queue.empty());
}

TEST_F(Parity, Queue_simple_takes_what_serializes) {
  simple_queue<std::map<std::string, std::vector<double>>> queue;
  const std::map<std::string, std::vector<double>> item{{"a", {1, 2.5}}, {"", {}}};
  queue.put(item);
  queue.put({});
  EXPECT_EQ(queue.get(), item);
  EXPECT_TRUE(queue.get().empty());
}

TEST_F(Parity, Queue_simple_between_processes) {
  simple_queue<std::string> there, back;
  forked echo([&] {
    for (int i = 0; i < 100; ++i) back.put(there.get() + "!");
    return true;
  });
  for (int i = 0; i < 100; ++i) {
    there.put(std::to_string(i));
    EXPECT_EQ(back.get(10s), std::to_string(i) + "!");
  }
  EXPECT_TRUE(echo.succeeded());
}

TEST_F(Parity, Queue_simple_handle_that_was_sent_is_the_same_queue) {
  simple_queue<int> queue({.capacity = 8192});
  simple_queue<int> other = sent(queue);
  other.put(1);
  EXPECT_EQ(queue.get_nowait(), 1);
  EXPECT_EQ(other.capacity(), 8192u);
  queue.close();
  EXPECT_TRUE(other.closed());
}

TEST_F(Parity, Queue_simple_get_waits_for_an_item) {
  simple_queue<int> queue;
  forked producer([&] {
    board::wait(0);
    queue.put(7);
    return true;
  });
  EXPECT_THROW(queue.get(1ms), carom::queue_empty);
  board::set(0, 1);
  EXPECT_EQ(queue.get(), 7);
  EXPECT_TRUE(producer.succeeded());
}

TEST_F(Parity, Queue_simple_put_waits_for_room) {
  simple_queue<std::string> queue({.capacity = 4096});
  const std::string item(500, 'x');
  int fitted = 0;
  for (;; ++fitted) {
    try {
      queue.put_nowait(item);
    } catch (const carom::queue_full&) {
      break;
    }
  }
  EXPECT_EQ(fitted, 4096 / 520);
  EXPECT_THROW(queue.put(item, 1ms), carom::queue_full);
  forked consumer([&] {
    for (int i = 0; i <= fitted; ++i)
      if (queue.get() != item) return false;
    return true;
  });
  queue.put(item);
  EXPECT_TRUE(consumer.succeeded());
  EXPECT_TRUE(queue.empty());
}

TEST_F(Parity, Queue_simple_nowait_and_timeouts_find_nothing) {
  simple_queue<int> queue;
  EXPECT_THROW(queue.get_nowait(), carom::queue_empty);
  EXPECT_THROW(queue.get(-1s), carom::queue_empty);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THROW(queue.get(50ms), carom::queue_empty);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 50ms);
  queue.put(3);
  EXPECT_EQ(queue.get(std::chrono::hours::max()), 3);
}

TEST_F(Parity, Queue_simple_close_lets_what_is_there_be_taken) {
  simple_queue<int> queue;
  queue.put(1);
  queue.close();
  queue.close();
  EXPECT_TRUE(queue.closed());
  EXPECT_THAT(message_of([&] { queue.put(2); }), testing::HasSubstr("put on a closed queue"));
  EXPECT_THAT(message_of([&] { queue.put_nowait(2); }), testing::HasSubstr("closed"));
  EXPECT_EQ(queue.get(), 1);
  EXPECT_THAT(message_of([&] { queue.get(); }), testing::HasSubstr("get on a closed queue"));
  EXPECT_THAT(message_of([&] { queue.get_nowait(); }), testing::HasSubstr("closed"));
}

TEST_F(Parity, Queue_simple_close_wakes_who_waits) {
  simple_queue<std::string> empty, full({.capacity = 4096});
  while (true) {
    try {
      full.put_nowait(std::string(900, 'x'));
    } catch (const carom::queue_full&) {
      break;
    }
  }
  const auto expect_closed = [](auto f) {
    return [f] {
      board::add(0);
      return message_of(f).find("closed") != std::string::npos;
    };
  };
  forked getter(expect_closed([&] { empty.get(); }));
  forked putter(expect_closed([&] { full.put(std::string(900, 'x')); }));
  ASSERT_TRUE(board::wait(0, 2));
  empty.close();
  full.close();
  EXPECT_TRUE(getter.succeeded());
  EXPECT_TRUE(putter.succeeded());
}

TEST_F(Parity, Queue_simple_many_producers_and_consumers) {
  constexpr int producers = 3, consumers = 3, each = 3000;
  simple_queue<std::pair<int, int>> queue({.capacity = 4096});
  std::vector<forked> children;
  for (int p = 0; p < producers; ++p)
    children.emplace_back([&, p] {
      for (int i = 0; i < each; ++i) queue.put({p, i});
      return true;
    });
  for (int c = 0; c < consumers; ++c)
    children.emplace_back([&] {
      int last[producers] = {-1, -1, -1};
      for (int i = 0; i < producers * each / consumers; ++i) {
        const auto [from, number] = queue.get();
        if (number <= last[from]) return false;  // of each producer, in order
        last[from] = number;
        if (board::add(static_cast<unsigned>(from * each + number)) != 0) return false;
      }
      return true;
    });
  for (forked& child : children) EXPECT_TRUE(child.succeeded());
  EXPECT_TRUE(queue.empty());
  for (unsigned i = 0; i < producers * each; ++i) ASSERT_EQ(board::get(i), 1u);
}

TEST_F(Parity, Queue_simple_many_threads) {
  constexpr int each = 5000;
  simple_queue<int> queue({.capacity = 4096});
  std::vector<std::thread> threads;
  std::atomic<long> sum{0};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 1; i <= each; ++i) queue.put(i);
    });
    threads.emplace_back([&] {
      for (int i = 0; i < each; ++i) sum += queue.get();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sum, 3L * each * (each + 1) / 2);
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

TEST_F(Parity, Queue_simple_capacity) {
  EXPECT_EQ(simple_queue<int>().capacity(), std::size_t{1} << 20);
  EXPECT_EQ(simple_queue<int>({.capacity = 1}).capacity(), 4096u);
  EXPECT_EQ(simple_queue<int>({.capacity = 5000}).capacity(), 8192u);
  EXPECT_THROW(simple_queue<int>({.capacity = 0}), std::invalid_argument);
  EXPECT_THROW(simple_queue<int>({.capacity = ~std::size_t{0}}), std::invalid_argument);
}

TEST_F(Parity, Queue_simple_full_table_of_descriptors_loses_no_item) {
  simple_queue<carom::file_descriptor> queue;
  queue.put(file_with(8));
  std::vector<int> taken;
  for (int fd; (fd = ::fcntl(0, F_DUPFD_CLOEXEC, 3)) >= 0;) taken.push_back(fd);
  EXPECT_THAT(message_of([&] { queue.get(); }), testing::HasSubstr("RLIMIT_NOFILE"));
  for (const int fd : taken) ::close(fd);
  EXPECT_EQ(number_in(queue.get()), 8);
}

TEST_F(Parity, Queue_simple_inherited_by_children_and_grandchildren) {
  simple_queue<int> queue;
  forked child([&] {
    queue.put(1);
    forked grandchild([&] {
      queue.put(queue.get() + 1);
      return true;
    });
    return grandchild.succeeded();
  });
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(queue.get_nowait(), 2);
}

TEST_F(Parity, Queue_simple_cycles_leave_nothing_behind) {
  const int cycles = std::getenv("CAROM_FULL") ? 100'000 : 10'000;
  const auto before = carom::test::holdings::now();
  for (int i = 0; i < cycles; ++i) {
    simple_queue<int> queue;
    queue.put(i);
    if (i % 10 == 0) sent(queue).put(i);
    ASSERT_EQ(queue.get(), i);
  }
  EXPECT_TRUE(carom::test::holdings::now().within(before)) << carom::test::holdings::now();
}

// The size in a frame has 32 bits. The memory is touched with CAROM_FULL only, where it is 4 GiB.
TEST_F(Parity, Queue_simple_carries_more_than_4_GiB) {
  const std::size_t size =
      (std::getenv("CAROM_FULL") ? std::size_t{4} << 30 : std::size_t{16} << 20) + 3;
  simple_queue<std::string> queue({.capacity = 5 * size});
  void* const at =
      ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(at, MAP_FAILED);
  queue.send_payload(std::span(static_cast<const std::byte*>(at), size));
  ::munmap(at, size);
  queue.put("behind it");
  EXPECT_EQ(queue.get_payload().size(), size);
  EXPECT_EQ(queue.get(), "behind it");
}

}  // namespace

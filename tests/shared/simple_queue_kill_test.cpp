// SPDX-License-Identifier: BSL-1.0
// Processes are killed inside of put and get: what they had not put whole is not there, what they
// had not taken is there, nobody waits for them, and nothing is left behind.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <carom/errors.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/shared_array.hpp>
#include <carom/simple_queue.hpp>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/shared/kills.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using namespace carom::test;
using carom::simple_queue;

/// An item that knows what it has to be, small or in memory of its own, perhaps with a descriptor.
struct parcel {
  std::uint32_t sender = 0;
  std::uint32_t number = 0;
  std::string bytes;
  std::optional<carom::file_descriptor> file;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& sender& number& bytes& file;
  }
};

struct mix {
  std::size_t most_bytes;
  bool files;
};

std::string bytes_of(std::uint32_t sender, std::uint32_t number, std::size_t most) {
  const std::size_t size = (sender * 2654435761u + number * 40503u) % (most + 1);
  return std::string(size, static_cast<char>(sender * 7 + number));
}

parcel make_parcel(std::uint32_t sender, std::uint32_t number, const mix& what) {
  parcel made{sender, number, bytes_of(sender, number, what.most_bytes), {}};
  if (what.files && number % 2 == 0) {
    made.file.emplace(::memfd_create("parcel", MFD_CLOEXEC));
    const std::uint32_t words[2] = {sender, number};
    if (::write(made.file->get(), words, sizeof words) != sizeof words) throw std::bad_alloc();
  }
  return made;
}

bool is_whole(const parcel& item, const mix& what) {
  if (item.bytes != bytes_of(item.sender, item.number, what.most_bytes)) return false;
  if (!what.files || item.number % 2 != 0) return !item.file;
  std::uint32_t words[2] = {};
  return item.file && ::pread(item.file->get(), words, sizeof words, 0) == sizeof words &&
         words[0] == item.sender && words[1] == item.number;
}

/// Producers are killed while others put and this process gets: what arrives of each is whole, and
/// is its items from the first on without a gap.
void kill_producers(const mix& what, int count) {
  seeded random;
  simple_queue<parcel> queue({.capacity = 8192});
  std::map<std::uint32_t, std::uint32_t> next;
  const auto expect_next = [&](const parcel& item) {
    ASSERT_TRUE(is_whole(item, what));
    ASSERT_EQ(item.number, next[item.sender]++) << "of sender " << item.sender;
  };
  const auto producer = [&](std::uint32_t sender) {
    return forked([&queue, &what, sender] {
      for (std::uint32_t number = 0;; ++number) queue.put(make_parcel(sender, number, what));
      return false;
    });
  };
  forked other = producer(0);
  for (int i = 1; i <= count && !testing::Test::HasFatalFailure(); ++i) {
    forked victim = producer(static_cast<std::uint32_t>(i));
    const std::uint64_t gets = random.below(40);
    for (std::uint64_t k = 0; k < gets; ++k) expect_next(queue.get(30s));
    random.pause(300);
    victim.kill();
    // The other one goes on.
    const std::uint32_t seen = next[0];
    while (next[0] < seen + 2 && !testing::Test::HasFatalFailure()) expect_next(queue.get(30s));
  }
  other.kill();
  try {
    while (!testing::Test::HasFatalFailure()) expect_next(queue.get_nowait());
  } catch (const carom::queue_empty&) {
  }
  queue.put(make_parcel(9'999'999, 0, what));
  expect_next(queue.get(30s));
  EXPECT_TRUE(queue.empty());
}

/// Consumers are killed while another gets and this process puts: each item is taken by one at
/// most, and only those are missing that a victim had just taken, one for each kill.
void kill_consumers(const mix& what, int count) {
  seeded random;
  simple_queue<parcel> queue({.capacity = 8192});
  constexpr unsigned first_mark = 100;
  const auto consumer = [&] {
    return forked([&] {
      for (;;) {
        const parcel item = queue.get();
        if (!is_whole(item, what)) board::add(0);
        if (board::add(first_mark + item.number) != 0) board::add(1);
      }
      return false;
    });
  };
  std::uint32_t number = 0;
  forked other = consumer();
  for (int i = 0; i < count; ++i) {
    forked victim = consumer();
    for (std::uint64_t left = random.below(20) + 1; left > 0; --left)
      queue.put(make_parcel(1, number++, what), 30s);
    random.pause(200);
    victim.kill();
  }
  ASSERT_LT(first_mark + number, board::slots);
  // The other one takes what is there, then this process the rest.
  EXPECT_TRUE(eventually([&] { return queue.empty(); }));
  other.kill();
  try {
    for (;;) {
      const parcel item = queue.get_nowait();
      EXPECT_TRUE(is_whole(item, what));
      EXPECT_EQ(board::add(first_mark + item.number), 0u);
    }
  } catch (const carom::queue_empty&) {
  }
  EXPECT_EQ(board::get(0), 0u) << "items were not whole";
  EXPECT_EQ(board::get(1), 0u) << "items were taken twice";
  int missing = 0;
  for (std::uint32_t i = 0; i < number; ++i) missing += board::get(first_mark + i) == 0;
  EXPECT_LE(missing, count + 1);
}

TEST_F(Parity, Queue_simple_producers_are_killed) {
  kill_producers({100, false}, kills(150, 3000));
}
TEST_F(Parity, Queue_simple_producers_of_large_items_are_killed) {
  kill_producers({6000, false}, kills(100, 2000));
}
TEST_F(Parity, Queue_simple_producers_of_descriptors_are_killed) {
  kill_producers({3000, true}, kills(100, 2000));
}
TEST_F(Parity, Queue_simple_consumers_are_killed) {
  kill_consumers({100, false}, kills(150, 3000));
}
TEST_F(Parity, Queue_simple_consumers_of_large_items_are_killed) {
  kill_consumers({6000, false}, kills(100, 2000));
}
TEST_F(Parity, Queue_simple_consumers_of_descriptors_are_killed) {
  kill_consumers({3000, true}, kills(100, 2000));
}

/// Between two kills inside of a call. The full run takes each instruction where there are few.
std::uint64_t stride(const mix& what) {
  if (std::getenv("CAROM_FULL")) return what.files ? 29 : 1;
  // Under a sanitizer there are many more of them, which costs their square.
  if (slowness > 1) return what.files ? 10'007 : 1'009;
  return what.files ? 401 : 7;
}

TEST_F(Parity, Queue_simple_killed_at_instructions_of_put) {
  for (const mix what : {mix{8, false}, mix{3000, true}}) {
    simple_queue<parcel> queue({.capacity = 4096});
    const parcel item = make_parcel(3, 4, what);
    int arrived = 0;
    const int done = kill_at_instructions([&] { queue.put(item); }, stride(what),
                                          [&](std::uint64_t at) {
                                            queue.put(make_parcel(5, 6, what), 30s);
                                            parcel got = queue.get(30s);
                                            if (got.sender == 3) {
                                              ASSERT_TRUE(is_whole(got, what)) << at;
                                              ++arrived;
                                              got = queue.get(30s);
                                            }
                                            ASSERT_TRUE(got.sender == 5 && is_whole(got, what))
                                                << at;
                                            ASSERT_TRUE(queue.empty()) << at;
                                          });
    EXPECT_GT(done, 2);
    EXPECT_GE(arrived, 1) << "the last one ran to its end";
    EXPECT_LT(arrived, done);
  }
}

TEST_F(Parity, Queue_simple_killed_at_instructions_of_get) {
  for (const mix what : {mix{8, false}, mix{3000, true}}) {
    simple_queue<parcel> queue({.capacity = 4096});
    int stayed = 0;
    queue.put(make_parcel(0, 0, what));
    std::uint32_t number = 2;
    const int done = kill_at_instructions([&] { queue.get(); }, stride(what),
                                          [&](std::uint64_t at) {
                                            queue.put(make_parcel(0, number, what), 30s);
                                            parcel got = queue.get(30s);
                                            ASSERT_TRUE(is_whole(got, what)) << at;
                                            // It stayed for the next, or the dead one had it: never
                                            // anything in between.
                                            if (got.number == number - 2) {
                                              ++stayed;
                                              got = queue.get(30s);
                                            }
                                            ASSERT_TRUE(got.number == number && is_whole(got, what))
                                                << at;
                                            ASSERT_TRUE(queue.empty()) << at;
                                            number += 2;
                                            queue.put(make_parcel(0, number, what), 30s);
                                            number += 2;
                                          });
    EXPECT_GT(done, 2);
    EXPECT_GE(stayed, 1);
    EXPECT_LT(stayed, done);
  }
}

TEST_F(Parity, Queue_simple_killed_at_instructions_of_close) {
  std::optional<simple_queue<int>> queue;
  std::optional<forked> waiter;
  const auto begin = [&] {
    board::reset();
    queue.emplace();
    queue->put(7);
    waiter.emplace([&] {
      if (queue->get() != 7) return false;
      board::add(0);
      try {
        (void)queue->get();
      } catch (const carom::process_error&) {
        return true;
      }
      return false;
    });
    board::wait(0);
  };
  begin();
  int open = 0;
  const int done = kill_at_instructions([&] { queue->close(); }, short_stride(),
                                        [&](std::uint64_t at) {
                                          if (!queue->closed()) {
                                            ++open;
                                            queue->close();
                                          }
                                          ASSERT_TRUE(waiter->succeeded()) << at;
                                          ASSERT_THROW(queue->put(1), carom::process_error) << at;
                                          begin();
                                        });
  queue->close();
  EXPECT_TRUE(waiter->succeeded());
  EXPECT_GT(done, 2);
  EXPECT_GT(open, 0);
  EXPECT_LE(open, done) << "the last one closed it";
}

TEST_F(Parity, Queue_simple_killed_while_it_waits) {
  seeded random;
  simple_queue<int> empty;
  simple_queue<std::string> full({.capacity = 4096});
  const std::string item(900, 'x');
  try {
    for (;;) full.put_nowait(item);
  } catch (const carom::queue_full&) {
  }
  forked getter([&] { return empty.get() == 1; });
  forked putter([&] {
    full.put(item);
    return true;
  });
  for (int i = 0; i < kills(50, 1000); ++i) {
    forked first([&] { return empty.get() == 0; });
    forked second([&] {
      full.put(item);
      return false;
    });
    random.pause(400);
    first.kill();
    second.kill();
  }
  empty.put(1);
  EXPECT_EQ(full.get(), item);
  EXPECT_TRUE(getter.succeeded());
  EXPECT_TRUE(putter.succeeded());
}

}  // namespace

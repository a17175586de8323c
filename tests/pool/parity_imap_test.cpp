// SPDX-License-Identifier: BSL-1.0
// Rows `imap` and `imap_unordered` of api.md, and "infinite imap input in constant memory".
#include <gtest/gtest.h>

#include <algorithm>
#include <carom/carom.hpp>
#include <ranges>
#include <string>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;

int odd_only(int x) {
  if (x % 2 == 0) throw std::domain_error("even: " + std::to_string(x));
  return x;
}

/// The first item waits to be released, the others do not.
int first_is_slow(int x) {
  if (x == 0) board::wait(1);
  return x;
}

std::string kilobytes(int x) { return std::string(4096, static_cast<char>('a' + x % 26)); }

}  // namespace

TEST_F(Parity, Pool_imap) {
  carom::pool pool{{.processes = 2}};
  for (const int count : {0, 1, 2, 1000}) {
    int expected = 0;
    for (const int y : pool.imap(tasks::square, std::views::iota(0, count))) {
      EXPECT_EQ(y, expected * expected);
      ++expected;
    }
    EXPECT_EQ(expected, count);
  }
}

TEST_F(Parity, Pool_imap_chunks) {
  carom::pool pool{{.processes = 2}};
  for (const std::size_t chunk : {2, 7, 100, 5000}) {
    int expected = 0;
    for (const int y : pool.imap([](int x) { return -x; }, std::views::iota(0, 1234), chunk))
      EXPECT_EQ(y, -expected++);
    EXPECT_EQ(expected, 1234);
  }
  EXPECT_THROW(pool.imap(tasks::square, std::vector{1}, 0), std::invalid_argument);
}

TEST_F(Parity, Pool_imap_is_a_range_for_views) {
  carom::pool pool{{.processes = 2}};
  auto results = pool.imap(tasks::square, std::vector{1, 2, 3, 4, 5});
  static_assert(std::ranges::input_range<decltype(results)>);
  std::vector<int> even;
  for (const int y :
       std::ranges::ref_view(results) | std::views::filter([](int i) { return i % 2 == 0; }))
    even.push_back(y);
  EXPECT_EQ(even, (std::vector{4, 16}));
}

TEST_F(Parity, Pool_imap_infinite_input_in_constant_memory) {
  carom::pool pool{{.processes = 2}};
  std::size_t taken = 0;
  auto source = std::views::iota(0) | std::views::transform([&taken](int i) {
                  ++taken;
                  return i;
                });
  auto results = pool.imap(kilobytes, source);
  const int full = std::getenv("CAROM_FULL") ? 1'000'000 : 50'000;
  std::uint64_t early = 0;
  for (int i = 0; i < full; ++i) {
    const auto text = results.next();
    ASSERT_TRUE(text.has_value());
    ASSERT_EQ(text->front(), 'a' + i % 26);
    ASSERT_LE(taken, static_cast<std::size_t>(i) + 100'000) << "the source is read without bound";
    if (i == full / 5) early = carom::test::resident_bytes(::getpid());
  }
  EXPECT_LE(carom::test::resident_bytes(::getpid()), early + (16 << 20));
}

TEST_F(Parity, Pool_imap_takes_no_more_than_it_needs_for_its_workers) {
  carom::pool pool{{.processes = 1}};
  std::size_t taken = 0;
  auto results = pool.imap(first_is_slow, std::views::iota(0) | std::views::transform([&](int i) {
                                            ++taken;
                                            return i;
                                          }));
  EXPECT_THROW(results.next(std::chrono::milliseconds(20)), carom::timeout_error);
  const std::size_t under_way = taken;
  EXPECT_THROW(results.next(std::chrono::milliseconds(20)), carom::timeout_error);
  EXPECT_EQ(taken, under_way);
  board::set(1, 1);
  EXPECT_EQ(results.next(), 0) << "the item comes with a later call";
  EXPECT_EQ(results.next(std::chrono::seconds(30)), 1);
}

TEST_F(Parity, Pool_imap_failed_item_throws_and_the_range_goes_on) {
  carom::pool pool{{.processes = 2}};
  for (const std::size_t chunk : {1, 4}) {
    auto results = pool.imap(odd_only, std::views::iota(0, 10), chunk);
    for (int i = 0; i < 10; ++i) {
      if (i % 2)
        EXPECT_EQ(results.next(), i);
      else
        EXPECT_THROW(results.next(), std::domain_error);
    }
    EXPECT_EQ(results.next(), std::nullopt);
    EXPECT_EQ(results.next(), std::nullopt);
  }
}

TEST_F(Parity, Pool_imap_failed_item_with_iterators) {
  carom::pool pool{{.processes = 1}};
  auto results = pool.imap(odd_only, std::vector{1, 2, 3});
  auto it = results.begin();
  EXPECT_EQ(*it, 1);
  EXPECT_THROW(*++it, std::domain_error);
  EXPECT_EQ(*++it, 3);
  EXPECT_TRUE(++it == results.end());
}

TEST_F(Parity, Pool_imap_void_function) {
  carom::pool pool{{.processes = 2}};
  int count = 0;
  for ([[maybe_unused]] auto&& none :
       pool.imap([](int) { board::add(0); }, std::views::iota(0, 100), 9))
    ++count;
  EXPECT_EQ(count, 100);
  EXPECT_EQ(board::get(0), 100U);
}

TEST_F(Parity, Pool_imap_unordered) {
  carom::pool pool{{.processes = 2}};
  for (const std::size_t chunk : {1, 16}) {
    std::vector<int> seen;
    for (const int y :
         pool.imap_unordered([](int x) { return x; }, std::views::iota(0, 777), chunk))
      seen.push_back(y);
    std::ranges::sort(seen);
    EXPECT_TRUE(std::ranges::equal(seen, std::views::iota(0, 777)));
  }
}

TEST_F(Parity, Pool_imap_unordered_gives_what_is_done_first) {
  carom::pool pool{{.processes = 2}};
  std::vector<int> seen;
  auto results = pool.imap_unordered(first_is_slow, std::views::iota(0, 50));
  for (int i = 0; i < 49; ++i) {
    const auto next = results.next(std::chrono::seconds(30));
    ASSERT_TRUE(next);
    EXPECT_NE(*next, 0);
  }
  board::set(1, 1);
  EXPECT_EQ(results.next(), 0);
  EXPECT_EQ(results.next(), std::nullopt);
}

TEST_F(Parity, Pool_imap_dropped_half_way) {
  carom::pool pool{{.processes = 2}};
  for (int i = 0; i < 20; ++i) {
    auto results = pool.imap(tasks::square, std::views::iota(0));
    for (int j = 0; j < i; ++j) EXPECT_EQ(results.next(), j * j);
  }
  EXPECT_EQ(pool.apply(tasks::square, 5), 25);
}

TEST_F(Parity, Pool_imap_ends_with_its_pool) {
  auto pool = std::make_unique<carom::pool>(carom::pool_options{.processes = 1});
  auto results = pool->imap(first_is_slow, std::views::iota(0));
  EXPECT_THROW(results.next(std::chrono::milliseconds(1)), carom::timeout_error);
  pool->terminate();
  pool.reset();
  // What was under way has ended in `terminated`; then the closed pool takes no more.
  const auto read_on = [&] {
    for (;;) {
      try {
        results.next();
      } catch (const carom::terminated&) {
      }
    }
  };
  EXPECT_THROW(read_on(), carom::pool_closed);
}

// SPDX-License-Identifier: BSL-1.0
// Row `max_pending` of api.md for imap: a full pool makes it wait, and loses none of its items.
#include <gtest/gtest.h>

#include <algorithm>
#include <carom/carom.hpp>
#include <chrono>
#include <future>
#include <ranges>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using namespace std::chrono_literals;

std::size_t length_of_item(const std::string& text) { return text.size(); }

template <class Range>
std::vector<int> all_of(Range items) {
  std::vector<int> seen;
  while (const auto item = items.next(60s)) seen.push_back(*item);
  return seen;
}

std::vector<int> squares_of(int count) {
  std::vector<int> all;
  for (int i = 0; i < count; ++i) all.push_back(i * i);
  return all;
}

}  // namespace

TEST_F(Parity, Pool_max_pending_loses_no_item_of_imap) {
  for (const auto overflow : {carom::overflow::reject, carom::overflow::block})
    for (const std::size_t most : {1, 4}) {
      SCOPED_TRACE(std::to_string(most) +
                   (overflow == carom::overflow::block ? " blocks" : " rejects"));
      carom::pool pool{{.processes = 2, .max_pending = most, .overflow = overflow}};
      for (const std::size_t chunk : {1, 3}) {
        EXPECT_EQ(all_of(pool.imap(tasks::square, std::views::iota(0, 40), chunk)), squares_of(40));
        auto unordered = all_of(pool.imap_unordered(tasks::square, std::views::iota(0, 40), chunk));
        std::ranges::sort(unordered);
        EXPECT_EQ(unordered, squares_of(40));
      }
    }
}

TEST_F(Parity, Pool_max_pending_bytes_loses_no_item_of_imap) {
  for (const auto overflow : {carom::overflow::reject, carom::overflow::block}) {
    carom::pool pool{{.processes = 2, .max_pending_bytes = 1000, .overflow = overflow}};
    const std::vector<std::string> texts(30, std::string(400, 'x'));
    std::size_t count = 0;
    for (const std::size_t size : pool.imap(length_of_item, texts)) {
      EXPECT_EQ(size, 400u);
      ++count;
    }
    EXPECT_EQ(count, texts.size());
    count = 0;
    for (const std::size_t size : pool.imap_unordered(length_of_item, texts)) {
      EXPECT_EQ(size, 400u);
      ++count;
    }
    EXPECT_EQ(count, texts.size());
  }
}

TEST_F(Parity, Pool_max_pending_imap_that_has_nothing_under_way_says_queue_full) {
  carom::pool pool{{.processes = 1, .max_pending = 1, .overflow = carom::overflow::reject}};
  const auto other = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  auto items = pool.imap(tasks::square, std::views::iota(0, 3));
  for (int i = 0; i < 3; ++i) EXPECT_THROW(items.next(), carom::queue_full);
  board::set(release, 1);
  other.get();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(items.next(), i * i) << "nothing was lost";
  EXPECT_EQ(items.next(), std::nullopt);
}

TEST_F(Parity, Pool_max_pending_imap_waits_for_room_no_longer_than_it_may) {
  carom::pool pool{{.processes = 1, .max_pending = 1}};
  const auto other = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  auto items = pool.imap(tasks::square, std::views::iota(0, 3));
  EXPECT_THROW(items.next(1ms), carom::timeout_error);
  board::set(release, 1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(items.next(), i * i);
  EXPECT_EQ(items.next(), std::nullopt);
}

/// Where nobody may wait for room.
TEST_F(Parity, Pool_max_pending_loses_no_item_of_imap_on_the_loop_thread) {
  carom::pool pool{{.processes = 1, .max_pending = 1}};
  auto items = pool.imap(tasks::square, std::views::iota(0, 3));
  EXPECT_EQ(items.next(), 0);
  std::promise<std::string> said;
  const auto first = pool.apply_async(tasks::hold, begun, release);
  first.then([&](const auto&) {
    pool.apply_async(tasks::hold, begun, release + 1);  // takes the only place
    for (int i = 0; i < 2; ++i) try {
        items.next();
      } catch (const carom::queue_full&) {
        if (i == 1) said.set_value("queue_full");
      }
  });
  board::set(release, 1);
  EXPECT_EQ(said.get_future().get(), "queue_full");
  board::set(release + 1, 1);
  for (int i = 1; i < 3; ++i) EXPECT_EQ(items.next(), i * i);
  EXPECT_EQ(items.next(), std::nullopt);
}

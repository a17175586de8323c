// SPDX-License-Identifier: BSL-1.0
// semaphore and bounded_semaphore: rows of api.md.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::forked;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

template <class Semaphore>
void take_two_and_give_them_back(Semaphore& semaphore) {
  EXPECT_EQ(semaphore.get_value(), 2);
  EXPECT_TRUE(semaphore.acquire());
  EXPECT_EQ(semaphore.get_value(), 1);
  EXPECT_TRUE(semaphore.acquire());
  EXPECT_EQ(semaphore.get_value(), 0);
  EXPECT_FALSE(semaphore.acquire(0s));
  EXPECT_FALSE(semaphore.try_lock());
  EXPECT_EQ(semaphore.get_value(), 0);
  semaphore.release();
  EXPECT_EQ(semaphore.get_value(), 1);
  semaphore.release();
  EXPECT_EQ(semaphore.get_value(), 2);
}

TEST_F(Parity, Sync_semaphore_counts) {
  carom::semaphore semaphore(2);
  take_two_and_give_them_back(semaphore);
  semaphore.release();
  EXPECT_EQ(semaphore.get_value(), 3) << "there may be more than at first";
  semaphore.release(5);
  EXPECT_EQ(semaphore.get_value(), 8);
}

TEST_F(Parity, Sync_semaphore_begins_with_one_unit) {
  EXPECT_EQ(carom::semaphore().get_value(), 1);
  EXPECT_EQ(carom::bounded_semaphore().get_value(), 1);
  EXPECT_EQ(carom::semaphore(0).get_value(), 0);
}

TEST_F(Parity, Sync_bounded_semaphore_refuses_more_than_at_first) {
  carom::bounded_semaphore semaphore(2);
  take_two_and_give_them_back(semaphore);
  EXPECT_THROW(semaphore.release(), carom::process_error);
  EXPECT_EQ(semaphore.get_value(), 2);
  EXPECT_TRUE(semaphore.acquire());
  EXPECT_THROW(semaphore.release(2), carom::process_error);
  EXPECT_EQ(semaphore.get_value(), 1) << "none of the two";
  carom::semaphore& plain = semaphore;
  plain.release();
  const carom::semaphore sliced = semaphore;
  EXPECT_THROW(carom::semaphore(sliced).release(), carom::process_error);
}

TEST_F(Parity, Sync_semaphore_refuses_bad_numbers) {
  EXPECT_THROW(carom::semaphore(-1), std::invalid_argument);
  EXPECT_THROW(carom::bounded_semaphore(-5), std::invalid_argument);
  carom::semaphore semaphore(1);
  EXPECT_THROW(semaphore.release(0), std::invalid_argument);
  EXPECT_THROW(semaphore.release(-1), std::invalid_argument);
  EXPECT_THROW(semaphore.release(carom::semaphore::max_value), carom::process_error);
  EXPECT_EQ(semaphore.get_value(), 1);
}

TEST_F(Parity, Sync_semaphore_times_out) {
  carom::semaphore semaphore(0);
  const auto begin = clock_type::now();
  EXPECT_FALSE(semaphore.acquire(0s));
  EXPECT_FALSE(semaphore.acquire(-1s));
  EXPECT_FALSE(semaphore.acquire(60ms));
  EXPECT_GE(clock_type::now() - begin, 60ms);
}

TEST_F(Parity, Sync_semaphore_has_no_owner) {
  carom::semaphore semaphore(0);
  forked giver([&] {
    semaphore.release();
    return true;
  });
  EXPECT_TRUE(semaphore.acquire());
  EXPECT_TRUE(giver.succeeded());
}

TEST_F(Parity, Sync_semaphore_wakes_as_many_as_it_has_units) {
  carom::semaphore semaphore(0);
  std::vector<forked> takers;
  for (int i = 0; i < 4; ++i)
    takers.emplace_back([&] {
      board::add(0);
      const bool got = semaphore.acquire();
      board::add(1);
      return got;
    });
  board::wait(0, 4);
  semaphore.release(3);
  EXPECT_TRUE(board::wait(1, 3));
  EXPECT_EQ(semaphore.get_value(), 0);
  EXPECT_EQ(board::get(1), 3u);
  semaphore.release();
  for (auto& one : takers) EXPECT_TRUE(one.succeeded());
}

TEST_F(Parity, Sync_semaphore_unit_of_the_dead_stays_taken) {
  carom::semaphore semaphore(1);
  forked owner([&] {
    semaphore.acquire();
    board::set(0, 1);
    return board::wait(0, 2);
  });
  board::wait(0, 1);
  owner.kill();
  EXPECT_FALSE(semaphore.acquire(20ms)) << "a semaphore has no owner";
  semaphore.release();
  EXPECT_TRUE(semaphore.acquire());
}

TEST_F(Parity, Sync_semaphore_guards_like_a_lock) {
  carom::semaphore semaphore(1);
  {
    const std::scoped_lock held(semaphore);
    EXPECT_EQ(semaphore.get_value(), 0);
  }
  EXPECT_EQ(semaphore.get_value(), 1);
}

TEST_F(Parity, Sync_semaphore_lets_no_more_in_than_it_has) {
  carom::semaphore semaphore(2);
  constexpr unsigned inside = 0, most = 1;
  const auto enter = [&] {
    for (int i = 0; i < 1000; ++i) {
      semaphore.acquire();
      if (board::add(inside) >= 2) board::set(most, 3);
      board::add(inside, 0u - 1u);
      semaphore.release();
    }
    return true;
  };
  std::vector<forked> processes;
  for (int i = 0; i < 3; ++i) processes.emplace_back(enter);
  std::thread thread(enter);
  thread.join();
  for (auto& one : processes) EXPECT_TRUE(one.succeeded());
  EXPECT_EQ(board::get(most), 0u);
  EXPECT_EQ(semaphore.get_value(), 2);
}

/// Whoever has a semaphore can write what he likes into its memory.
TEST_F(Parity, Sync_semaphore_whose_memory_was_written_over_is_refused) {
  carom::semaphore semaphore(1);
  carom::detail::blob packed;
  carom::detail::encode(packed, semaphore);
  void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
                              packed.find_descriptors()->entries()[0].fd, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto& value = static_cast<std::int32_t*>(memory)[5];  // behind the header and the bound
  ASSERT_EQ(value, 1);
  value = INT32_MIN;
  ASSERT_EQ(semaphore.get_value(), INT32_MIN);
  EXPECT_THROW(semaphore.release(), carom::process_error);
  EXPECT_FALSE(semaphore.acquire(0s));
  ::munmap(memory, 4096);
}

}  // namespace

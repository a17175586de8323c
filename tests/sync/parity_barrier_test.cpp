// SPDX-License-Identifier: BSL-1.0
// barrier: rows of api.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::broken_barrier;
using carom::test::eventually;
using carom::test::forked;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

/// A process that waits once, and succeeds if that gives broken_barrier.
forked finds_it_broken(carom::barrier& barrier) {
  return forked([&] {
    try {
      barrier.wait();
    } catch (const broken_barrier&) {
      return true;
    }
    return false;
  });
}

bool are_waiting(const carom::barrier& barrier, int count) {
  return eventually([&] { return barrier.n_waiting() == count; });
}

TEST_F(Parity, Sync_barrier_lets_all_go_on_when_all_are_there) {
  carom::barrier barrier(3);
  EXPECT_EQ(barrier.parties(), 3);
  EXPECT_EQ(barrier.n_waiting(), 0);
  EXPECT_FALSE(barrier.broken());
  std::vector<forked> others;
  for (int i = 0; i < 2; ++i)
    others.emplace_back([&] {
      board::add(10 + static_cast<unsigned>(barrier.wait()));
      return true;
    });
  EXPECT_TRUE(are_waiting(barrier, 2));
  EXPECT_EQ(barrier.wait(), 2) << "numbers in the order of arrival";
  for (auto& one : others) EXPECT_TRUE(one.succeeded());
  EXPECT_EQ(board::get(10), 1u);
  EXPECT_EQ(board::get(11), 1u);
  EXPECT_EQ(barrier.n_waiting(), 0);
}

TEST_F(Parity, Sync_barrier_works_again_and_again) {
  carom::barrier barrier(4);
  constexpr unsigned rounds = 300;
  const auto party = [&] {
    for (unsigned round = 0; round < rounds; ++round) {
      board::add(round);
      const int number = barrier.wait();
      if (board::get(round) != 4) return false;  // somebody went on too early
      board::add(1000 + static_cast<unsigned>(number));
    }
    return true;
  };
  std::vector<forked> processes;
  for (int i = 0; i < 2; ++i) processes.emplace_back(party);
  std::thread thread([&] { EXPECT_TRUE(party()); });
  EXPECT_TRUE(party());
  thread.join();
  for (auto& one : processes) EXPECT_TRUE(one.succeeded());
  for (unsigned number = 0; number < 4; ++number) EXPECT_EQ(board::get(1000 + number), rounds);
}

TEST_F(Parity, Sync_barrier_of_one_party_never_waits) {
  carom::barrier barrier(1);
  EXPECT_EQ(barrier.wait(), 0);
  EXPECT_EQ(barrier.wait(0s), 0);
}

TEST_F(Parity, Sync_barrier_refuses_bad_numbers_of_parties) {
  EXPECT_THROW(carom::barrier(0), std::invalid_argument);
  EXPECT_THROW(carom::barrier(-1), std::invalid_argument);
  EXPECT_THROW(carom::barrier(carom::barrier::max_parties + 1), std::invalid_argument);
  EXPECT_EQ(carom::barrier(carom::barrier::max_parties).n_waiting(), 0);
}

void count_once(unsigned slot) { board::add(slot); }
void fail(std::string text) { throw std::runtime_error(text); }
void hold(unsigned begun, unsigned release) {
  board::add(begun);
  board::wait(release);
}

TEST_F(Parity, Sync_barrier_action_is_run_by_one_before_all_go_on) {
  carom::barrier barrier(3, carom::call(count_once, 0u));
  const auto party = [&] {
    for (unsigned round = 1; round <= 50; ++round) {
      barrier.wait();
      if (board::get(0) < round) return false;
      barrier.wait();
      if (board::get(0) < round) return false;
    }
    return true;
  };
  std::vector<forked> processes;
  for (int i = 0; i < 2; ++i) processes.emplace_back(party);
  EXPECT_TRUE(party());
  for (auto& one : processes) EXPECT_TRUE(one.succeeded());
  EXPECT_EQ(board::get(0), 100u);
}

TEST_F(Parity, Sync_barrier_action_that_throws_breaks_it) {
  carom::barrier barrier(2, carom::call(fail, "not today"));
  forked other = finds_it_broken(barrier);
  EXPECT_TRUE(are_waiting(barrier, 1));
  try {
    barrier.wait();
    FAIL();
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "not today");
  }
  EXPECT_TRUE(other.succeeded());
  EXPECT_TRUE(barrier.broken());
}

TEST_F(Parity, Sync_barrier_time_out_breaks_it) {
  carom::barrier barrier(3);
  forked other = finds_it_broken(barrier);
  EXPECT_TRUE(are_waiting(barrier, 1));
  const auto begin = clock_type::now();
  EXPECT_THROW(barrier.wait(50ms), broken_barrier);
  EXPECT_GE(clock_type::now() - begin, 50ms);
  EXPECT_TRUE(other.succeeded());
  EXPECT_TRUE(barrier.broken());
  EXPECT_THROW(barrier.wait(), broken_barrier) << "until it is reset";
}

TEST_F(Parity, Sync_barrier_has_a_time_of_its_own) {
  carom::barrier barrier(2, {}, 20ms);
  EXPECT_THROW(barrier.wait(), broken_barrier);
  barrier.reset();
  forked other([&] { return barrier.wait(std::nullopt) == 0; });
  EXPECT_TRUE(are_waiting(barrier, 1));
  EXPECT_EQ(barrier.wait(), 1);
  EXPECT_TRUE(other.succeeded());
}

TEST_F(Parity, Sync_barrier_abort_and_reset) {
  carom::barrier barrier(3);
  forked first = finds_it_broken(barrier);
  EXPECT_TRUE(are_waiting(barrier, 1));
  barrier.abort();
  EXPECT_TRUE(first.succeeded());
  EXPECT_TRUE(barrier.broken());
  barrier.reset();
  EXPECT_FALSE(barrier.broken());
  forked second = finds_it_broken(barrier);
  EXPECT_TRUE(are_waiting(barrier, 1));
  barrier.reset();
  EXPECT_TRUE(second.succeeded()) << "a reset is a break for those that wait";
  EXPECT_FALSE(barrier.broken());
  EXPECT_EQ(barrier.n_waiting(), 0);
  std::vector<forked> all;
  for (int i = 0; i < 2; ++i) all.emplace_back([&] { return barrier.wait() < 2; });
  EXPECT_TRUE(are_waiting(barrier, 2));
  EXPECT_EQ(barrier.wait(), 2);
}

TEST_F(Parity, Sync_barrier_takes_more_than_its_parties_in_turns) {
  carom::barrier barrier(2, carom::call(hold, 0u, 1u));
  std::vector<forked> four;
  for (int i = 0; i < 4; ++i) four.emplace_back([&] { return barrier.wait() < 2; });
  board::wait(0);
  EXPECT_EQ(barrier.n_waiting(), 2) << "the others wait for their turn";
  board::set(1, 1);
  for (auto& one : four) EXPECT_TRUE(one.succeeded());
  EXPECT_EQ(board::get(0), 2u);
}

TEST_F(Parity, Sync_barrier_breaks_while_its_action_runs) {
  carom::barrier barrier(2, carom::call(hold, 0u, 1u));
  forked early = finds_it_broken(barrier);
  EXPECT_TRUE(are_waiting(barrier, 1));
  forked actor = finds_it_broken(barrier);
  board::wait(0);
  barrier.abort();
  EXPECT_TRUE(early.succeeded()) << "at once";
  board::set(1, 1);
  EXPECT_TRUE(actor.succeeded());
}

TEST_F(Parity, Sync_barrier_reset_while_its_action_runs_is_a_new_beginning) {
  carom::barrier barrier(2, carom::call(hold, 0u, 1u));
  forked early = finds_it_broken(barrier);
  EXPECT_TRUE(are_waiting(barrier, 1));
  forked actor = finds_it_broken(barrier);
  board::wait(0);
  barrier.reset();
  EXPECT_TRUE(early.succeeded());
  forked next([&] { return barrier.wait() == 0; });
  EXPECT_TRUE(are_waiting(barrier, 1));
  board::set(1, 1);
  EXPECT_TRUE(actor.succeeded()) << "its party was broken up";
  EXPECT_EQ(barrier.wait(), 1);
  EXPECT_TRUE(next.succeeded());
}

TEST_F(Parity, Sync_barrier_breaks_by_a_death_in_wait) {
  carom::barrier barrier(4);
  std::vector<forked> others;
  for (int i = 0; i < 2; ++i) others.push_back(finds_it_broken(barrier));
  forked dying([&] { return barrier.wait() >= 0; });
  EXPECT_TRUE(are_waiting(barrier, 3));
  const auto begin = clock_type::now();
  dying.kill();
  for (auto& one : others) EXPECT_TRUE(one.succeeded());
  EXPECT_LT(clock_type::now() - begin, 200ms * carom::test::slowness);
  EXPECT_TRUE(barrier.broken());
}

TEST_F(Parity, Sync_barrier_breaks_by_a_death_that_nobody_waited_with) {
  carom::barrier barrier(2);
  forked dying([&] { return barrier.wait() >= 0; });
  EXPECT_TRUE(are_waiting(barrier, 1));
  dying.kill();
  EXPECT_THROW(barrier.wait(), broken_barrier) << "who comes next finds it";
  barrier.reset();
  EXPECT_EQ(barrier.n_waiting(), 0);
}

TEST_F(Parity, Sync_barrier_breaks_by_a_death_in_its_action) {
  carom::barrier barrier(2, carom::call(hold, 0u, 1u));
  forked other = finds_it_broken(barrier);
  EXPECT_TRUE(are_waiting(barrier, 1));
  forked actor([&] { return barrier.wait() >= 0; });
  board::wait(0);
  actor.kill();
  EXPECT_TRUE(other.succeeded());
}

TEST_F(Parity, Sync_barrier_breaks_by_the_end_of_a_thread_that_was_told_to_wait_no_more) {
  carom::barrier barrier(3);
  forked other = finds_it_broken(barrier);
  EXPECT_TRUE(are_waiting(barrier, 1));
  EXPECT_TRUE(forked([&] {
                std::thread([&] { barrier.wait(); }).detach();
                return are_waiting(barrier, 2);  // and the process ends with its thread in wait
              }).succeeded());
  EXPECT_TRUE(other.succeeded());
}

TEST_F(Parity, Sync_barrier_is_not_broken_by_one_too_many_whose_time_is_up) {
  carom::barrier barrier(1, carom::call(hold, 0u, 1u));
  forked actor([&] { return barrier.wait() == 0; });
  ASSERT_TRUE(board::wait(0));
  EXPECT_THROW(barrier.wait(20ms), broken_barrier);
  EXPECT_FALSE(barrier.broken());
  board::set(1, 1);
  EXPECT_TRUE(actor.succeeded()) << "its party was whole";
  EXPECT_EQ(barrier.wait(), 0);
}

}  // namespace

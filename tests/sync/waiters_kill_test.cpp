// SPDX-License-Identifier: BSL-1.0
// Processes are killed before one instruction of waiting, and of what ends the waiting of others.
#include <gtest/gtest.h>

#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <optional>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/sync/experiment.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using carom::test::forked;
using carom::test::killed_at_many_instructions;
using namespace std::chrono_literals;

TEST_F(Parity, Sync_rlock_waiter_killed_at_an_instruction) {
  carom::rlock lock;
  killed_at_many_instructions({.prepare = [&] { lock.lock(); },
                               .body = [&] { lock.acquire(1ms); },
                               .check =
                                   [&] {
                                     lock.unlock();
                                     forked next([&] {
                                       if (!lock.acquire(10s)) return false;
                                       lock.unlock();
                                       return true;
                                     });
                                     ASSERT_TRUE(next.succeeded());
                                   }});
}

TEST_F(Parity, Sync_semaphore_waiter_killed_at_an_instruction) {
  carom::semaphore units(0);
  killed_at_many_instructions({.body = [&] { units.acquire(1ms); },
                               .check =
                                   [&] {
                                     ASSERT_EQ(units.get_value(), 0) << "it found none to take";
                                     units.release();
                                     ASSERT_TRUE(
                                         forked([&] { return units.acquire(10s); }).succeeded());
                                   }});
}

TEST_F(Parity, Sync_bounded_semaphore_waiter_killed_at_an_instruction) {
  carom::bounded_semaphore units(1);
  killed_at_many_instructions({.prepare = [&] { units.acquire(); },
                               .body = [&] { units.acquire(1ms); },
                               .check =
                                   [&] {
                                     units.release();
                                     ASSERT_EQ(units.get_value(), 1);
                                     ASSERT_THROW(units.release(), carom::process_error);
                                   }});
}

TEST_F(Parity, Sync_event_waiter_killed_at_an_instruction) {
  carom::event event;
  killed_at_many_instructions({.body = [&] { event.wait(1ms); },
                               .check =
                                   [&] {
                                     forked waiter([&] {
                                       board::add(0);
                                       return event.wait(10s);
                                     });
                                     board::wait(0);
                                     event.set();
                                     ASSERT_TRUE(waiter.succeeded());
                                     event.clear();
                                     ASSERT_FALSE(event.is_set());
                                   }});
}

TEST_F(Parity, Sync_event_killed_at_an_instruction_of_clear) {
  carom::event event;
  int cleared = 0;
  killed_at_many_instructions({.prepare = [&] { event.set(); },
                               .body = [&] { event.clear(); },
                               .check =
                                   [&] {
                                     const bool was_cleared = !event.is_set();
                                     cleared += was_cleared;
                                     ASSERT_EQ(event.wait(0s), !was_cleared)
                                         << "it is one or the other";
                                     event.clear();
                                     forked waiter([&] {
                                       board::add(0);
                                       return event.wait(10s);
                                     });
                                     board::wait(0);
                                     ASSERT_FALSE(event.is_set());
                                     event.set();
                                     ASSERT_TRUE(waiter.succeeded());
                                   }});
  EXPECT_GT(cleared, 0);
}

TEST_F(Parity, Sync_barrier_killed_at_an_instruction_of_abort) {
  carom::barrier barrier(2);
  std::optional<forked> other;
  int aborted = 0;
  killed_at_many_instructions({.prepare =
                                   [&] {
                                     other.emplace([&] {
                                       try {
                                         barrier.wait();
                                       } catch (const carom::broken_barrier&) {
                                         return true;
                                       }
                                       return false;
                                     });
                                     ASSERT_TRUE(
                                         eventually([&] { return barrier.n_waiting() == 1; }));
                                   },
                               .body = [&] { barrier.abort(); },
                               .check =
                                   [&] {
                                     aborted += barrier.broken();
                                     // Whether the dead one had come to it or not: nobody is left
                                     // in there by this.
                                     barrier.abort();
                                     ASSERT_TRUE(other->succeeded());
                                     barrier.reset();
                                     ASSERT_FALSE(barrier.broken());
                                     forked fresh([&] { return barrier.wait() >= 0; });
                                     ASSERT_GE(barrier.wait(10s), 0);
                                     ASSERT_TRUE(fresh.succeeded());
                                   }});
  EXPECT_GT(aborted, 0);
}

// It does not come to the next round, whose others must hear of that.
TEST_F(Parity, Sync_barrier_party_killed_on_its_way_out) {
  constexpr unsigned passed = 1;
  carom::barrier barrier(2);
  int told = 0;
  bool left = false;
  for (long instruction = 0; !left; instruction += 16) {
    SCOPED_TRACE(instruction);
    board::reset();
    forked other([&] {
      try {
        barrier.wait();
        board::set(passed, 1);
      } catch (const carom::broken_barrier&) {
      }
      return true;
    });
    ASSERT_TRUE(eventually([&] { return barrier.n_waiting() == 1; }));
    left = !carom::test::killed_at_instruction([&] { barrier.wait(); }, instruction);
    bool ended = false;
    if (left || instruction % 32 == 0) {
      const bool came = barrier.n_waiting() == 0;
      const bool broken = barrier.broken();
      if (!came) barrier.abort();  // it was killed before it was a party
      ended = other.succeeded();
      ASSERT_TRUE(ended);
      EXPECT_FALSE(left && broken);
      told += broken && board::get(passed) != 0;
    }
    barrier.reset();
    ASSERT_FALSE(barrier.broken()) << "whether somebody had heard of the death or not";
    ASSERT_TRUE(ended || other.succeeded());
  }
  EXPECT_GT(told, 0);
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// A process is killed before one chosen instruction of an operation, by single steps: that meets
// also the shortest moments, between a change and the word that says so.
#include <gtest/gtest.h>

#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <mutex>
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

TEST_F(Parity, Sync_lock_killed_at_an_instruction) {
  carom::lock lock;
  killed_at_many_instructions({.body =
                                   [&] {
                                     lock.lock();
                                     lock.unlock();
                                   },
                               .check =
                                   [&] {
                                     ASSERT_TRUE(lock.acquire(10s));
                                     lock.release();
                                   }});
}

TEST_F(Parity, Sync_rlock_killed_at_an_instruction) {
  carom::rlock lock;
  killed_at_many_instructions({.body =
                                   [&] {
                                     for (int i = 0; i < 3; ++i) lock.lock();
                                     for (int i = 0; i < 3; ++i) lock.unlock();
                                   },
                               .check =
                                   [&] {
                                     ASSERT_TRUE(lock.acquire(10s));
                                     lock.release();
                                     ASSERT_THROW(lock.release(), carom::process_error)
                                         << "its depth was right";
                                   }});
}

TEST_F(Parity, Sync_lock_waiter_killed_at_an_instruction) {
  carom::lock lock;
  killed_at_many_instructions(
      {.prepare = [&] { lock.lock(); },
       .body = [&] { lock.acquire(1ms); },
       .check =
           [&] {
             lock.unlock();
             ASSERT_TRUE(forked([&] { return bool(lock.acquire(10s)); }).succeeded());
           }});
}

TEST_F(Parity, Sync_semaphore_killed_at_an_instruction) {
  carom::semaphore units(1);
  killed_at_many_instructions({.body =
                                   [&] {
                                     units.acquire();
                                     units.release();
                                   },
                               .check =
                                   [&] {
                                     const int left = units.get_value();
                                     ASSERT_TRUE(left == 0 || left == 1) << left;
                                     if (left == 0) units.release();
                                   }});
}

TEST_F(Parity, Sync_semaphore_taker_gets_what_the_dead_one_gave) {
  carom::semaphore units(0);
  std::optional<forked> taker;
  killed_at_many_instructions({.prepare =
                                   [&] {
                                     taker.emplace([&] {
                                       board::add(0);
                                       const bool got = units.acquire();
                                       board::add(1);
                                       return got;
                                     });
                                     board::wait(0);
                                   },
                               .body = [&] { units.release(); },
                               .check =
                                   [&] {
                                     // What was given is taken, though nobody may have been woken.
                                     ASSERT_TRUE(
                                         eventually([&] { return units.get_value() == 0; }));
                                     if (board::get(1) == 0)
                                       units.release();  // or it was not given
                                     ASSERT_TRUE(taker->succeeded());
                                     while (units.acquire(0s)) {
                                     }
                                   }});
}

TEST_F(Parity, Sync_event_waiter_sees_what_the_dead_one_set) {
  carom::event event;
  std::optional<forked> waiter;
  killed_at_many_instructions({.prepare =
                                   [&] {
                                     waiter.emplace([&] {
                                       board::add(0);
                                       return event.wait();
                                     });
                                     board::wait(0);
                                   },
                               .body = [&] { event.set(); },
                               .check =
                                   [&] {
                                     if (!event.is_set()) event.set();
                                     ASSERT_TRUE(waiter->succeeded());
                                     event.clear();
                                   }});
}

TEST_F(Parity, Sync_condition_notifier_killed_at_an_instruction) {
  carom::condition condition;
  std::optional<forked> waiter;
  killed_at_many_instructions({.prepare =
                                   [&] {
                                     waiter.emplace([&] {
                                       const std::scoped_lock held(condition);
                                       board::add(0);
                                       while (board::get(1) == 0) condition.wait();
                                       return true;
                                     });
                                     board::wait(0);
                                   },
                               .body =
                                   [&] {
                                     condition.lock();
                                     board::set(1, 1);
                                     condition.notify();
                                     condition.unlock();
                                   },
                               .check =
                                   [&] {
                                     const auto how = condition.acquire(10s);
                                     ASSERT_TRUE(how);
                                     const bool done = board::get(1) == 1;
                                     board::set(1, 1);
                                     if (!done || how.abandoned()) condition.notify_all();
                                     condition.release();
                                     ASSERT_TRUE(waiter->succeeded());
                                   }});
}

TEST_F(Parity, Sync_condition_waiter_killed_at_an_instruction) {
  carom::condition condition;
  std::optional<forked> waiter;
  killed_at_many_instructions({.prepare = [] {},
                               .body =
                                   [&] {
                                     condition.lock();
                                     condition.wait(1ms);
                                     condition.notify();
                                     condition.unlock();
                                   },
                               .check =
                                   [&] {
                                     waiter.emplace([&] {
                                       const std::scoped_lock held(condition);
                                       board::add(0);
                                       return condition.wait();
                                     });
                                     board::wait(0);
                                     ASSERT_TRUE(condition.acquire(10s));
                                     condition.notify();
                                     condition.release();
                                     ASSERT_TRUE(waiter->succeeded());
                                   }});
}

// The first of two waiters is notified and killed at some instruction of what it then does: the
// other one has to get what it did not take.
TEST_F(Parity, Sync_condition_notified_waiter_killed_at_an_instruction) {
  carom::condition condition;
  std::optional<forked> second, notifier;
  killed_at_many_instructions({.prepare =
                                   [&] {
                                     // As soon as both wait, it notifies one of them.
                                     notifier.emplace([&] {
                                       board::wait(0, 2);
                                       const std::scoped_lock held(condition);
                                       board::set(1, 1);
                                       condition.notify();
                                       return true;
                                     });
                                     second.emplace([&] {
                                       board::wait(0, 1);
                                       const std::scoped_lock held(condition);
                                       board::add(0);
                                       while (board::get(1) == 0 || board::get(2) == 1)
                                         condition.wait();
                                       return true;
                                     });
                                   },
                               .body =
                                   [&] {
                                     condition.lock();
                                     board::add(0);
                                     while (board::get(1) == 0) condition.wait();
                                     board::set(
                                         2, 1);  // it has come through: it answers for the next one
                                     board::set(2, 2);
                                     condition.notify();
                                     condition.unlock();
                                   },
                               .check =
                                   [&] {
                                     board::set(0, 2);  // killed before it waited
                                     const auto how = condition.acquire(10s);
                                     ASSERT_TRUE(how);
                                     const bool came_through = board::get(2) != 0;
                                     board::set(2, 2);
                                     if (came_through || how.abandoned()) condition.notify_all();
                                     condition.release();
                                     ASSERT_TRUE(second->succeeded());
                                     ASSERT_TRUE(notifier->succeeded());
                                   }});
}

TEST_F(Parity, Sync_barrier_party_killed_at_an_instruction) {
  carom::barrier barrier(2);
  std::optional<forked> other;
  killed_at_many_instructions({.prepare =
                                   [&] {
                                     other.emplace([&] {
                                       try {
                                         barrier.wait();
                                       } catch (const carom::broken_barrier&) {
                                       }
                                       return true;
                                     });
                                     ASSERT_TRUE(
                                         eventually([&] { return barrier.n_waiting() == 1; }));
                                   },
                               .body = [&] { barrier.wait(); },
                               .check =
                                   [&] {
                                     // Alone in there for ever, unless somebody breaks it: the dead
                                     // one had not arrived.
                                     if (barrier.n_waiting() == 1) barrier.abort();
                                     ASSERT_TRUE(other->succeeded());
                                     barrier.reset();
                                     forked fresh([&] { return barrier.wait() >= 0; });
                                     ASSERT_GE(barrier.wait(10s), 0);
                                     ASSERT_TRUE(fresh.succeeded());
                                   }});
}

TEST_F(Parity, Sync_barrier_reset_killed_at_an_instruction) {
  carom::barrier barrier(2);
  std::optional<forked> other;
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
                               .body = [&] { barrier.reset(); },
                               .check =
                                   [&] {
                                     barrier.abort();
                                     ASSERT_TRUE(other->succeeded());
                                     barrier.reset();
                                     ASSERT_FALSE(barrier.broken());
                                   }});
}

}  // namespace

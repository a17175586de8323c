// SPDX-License-Identifier: BSL-1.0
// Processes are killed at any instant inside of every operation; the others go on, and what the
// primitives promise holds. CAROM_FULL=1 kills thousands; CAROM_SEED=<n> chooses as before.
#include <gtest/gtest.h>

#include <sched.h>

#include <array>
#include <atomic>
#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <cstdint>

#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/sync/victims.hpp"

namespace {

using carom::test::eventually;
using carom::test::goes_on;
using carom::test::kills;
using carom::test::shared_with_forks;
using carom::test::victims;
using namespace std::chrono_literals;
using counter = std::atomic<std::uint64_t>;

/// Two counters that are equal whenever the lock is free, and how often they were not.
struct guarded_pair {
  counter first{0}, second{0}, torn{0}, rounds{0};

  void increment(bool abandoned) {
    if (abandoned)
      second.store(first.load());  // what the dead one left half done
    else if (first.load() != second.load())
      ++torn;
    first.store(first.load() + 1);
    second.store(second.load() + 1);
    ++rounds;
  }
};

template <class Lock, class Step>
void kill_holders(Lock& lock, guarded_pair& pair, const Step& step) {
  const std::uint64_t seed = carom::test::chosen_seed();
  SCOPED_TRACE("CAROM_SEED=" + std::to_string(seed));
  victims processes(seed);
  for (int i = 0; i < 3; ++i) processes.add(step);
  for (int i = kills(150, 2000); i > 0; --i) {
    processes.kill_one();
    ASSERT_TRUE(goes_on([&] { return pair.rounds.load(); }));
  }
  processes.end();
  EXPECT_EQ(pair.torn.load(), 0u);
  ASSERT_TRUE(lock.acquire(10s));
  lock.release();
}

TEST_F(Parity, Sync_lock_survives_kills) {
  carom::lock lock;
  shared_with_forks<guarded_pair> pair;
  kill_holders(lock, *pair, [&] {
    pair->increment(lock.acquire().abandoned());
    lock.release();
  });
}

TEST_F(Parity, Sync_lock_survives_kills_of_timed_waiters) {
  carom::lock lock;
  shared_with_forks<guarded_pair> pair;
  kill_holders(lock, *pair, [&] {
    if (const auto how = lock.acquire(100us)) {
      pair->increment(how.abandoned());
      lock.release();
    }
  });
}

TEST_F(Parity, Sync_rlock_survives_kills) {
  carom::rlock lock;
  shared_with_forks<guarded_pair> pair;
  kill_holders(lock, *pair, [&] {
    lock.lock();
    const bool abandoned = lock.abandoned();
    lock.lock();
    pair->increment(abandoned);
    lock.unlock();
    lock.unlock();
  });
}

TEST_F(Parity, Sync_semaphore_survives_kills) {
  carom::semaphore units(0);
  struct tally {
    counter given{0}, taken{0};
  };
  shared_with_forks<tally> count;
  const std::uint64_t seed = carom::test::chosen_seed();
  SCOPED_TRACE("CAROM_SEED=" + std::to_string(seed));
  victims processes(seed);
  // Givers are slow, so that takers wait nearly always.
  for (int i = 0; i < 2; ++i)
    processes.add([&] {
      while (units.get_value() > 0) ::sched_yield();
      units.release();
      ++count->given;
    });
  for (int i = 0; i < 2; ++i)
    processes.add([&] {
      units.acquire();
      ++count->taken;
    });
  const int total = kills(150, 2000);
  for (int i = 0; i < total; ++i) {
    processes.kill_one();
    ASSERT_TRUE(goes_on([&] { return count->taken.load(); }));
  }
  processes.end();
  // Each kill may have come between a unit's change and its being counted; nothing else is lost.
  const auto difference = static_cast<std::int64_t>(count->given.load()) -
                          static_cast<std::int64_t>(count->taken.load()) - units.get_value();
  EXPECT_LE(std::abs(difference), total + 4);
}

TEST_F(Parity, Sync_bounded_semaphore_survives_kills) {
  constexpr int first = 2;
  carom::bounded_semaphore units(first);
  struct tally {
    counter rounds{0}, over{0}, acquired{0}, released{0};
  };
  shared_with_forks<tally> count;
  const std::uint64_t seed = carom::test::chosen_seed();
  SCOPED_TRACE("CAROM_SEED=" + std::to_string(seed));
  victims processes(seed);
  for (int i = 0; i < 3; ++i)
    processes.add([&] {
      units.acquire();
      ++count->rounds;
      try {
        units.release();
      } catch (const carom::process_error&) {
        ++count->over;
      }
    });
  for (int i = kills(150, 2000); i > 0; --i) {
    processes.kill_one();
    ASSERT_LE(units.get_value(), first);
    // What the dead had taken stays taken, until somebody who knows puts it back.
    const std::uint64_t before = count->rounds.load();
    ASSERT_TRUE(eventually([&] {
      if (units.get_value() == 0 && count->rounds.load() == before) try {
          units.release();
        } catch (const carom::process_error&) {
        }
      return count->rounds.load() != before;
    }));
  }
}

TEST_F(Parity, Sync_event_survives_kills) {
  carom::event event;
  shared_with_forks<counter> seen;
  const std::uint64_t seed = carom::test::chosen_seed();
  SCOPED_TRACE("CAROM_SEED=" + std::to_string(seed));
  victims processes(seed);
  for (int i = 0; i < 2; ++i)
    processes.add([&] {
      event.wait();
      ++*seen;
      event.clear();
    });
  processes.add([&] {
    event.set();
    while (event.is_set()) ::sched_yield();
  });
  for (int i = kills(150, 2000); i > 0; --i) {
    processes.kill_one();
    ASSERT_TRUE(goes_on([&] { return seen->load(); }));
  }
}

/// A bounded buffer with two conditions, each change notified once, no time-outs: a notification
/// that got lost would stop it.
struct buffer {
  static constexpr std::uint64_t capacity = 2;

  carom::lock lock;
  carom::condition not_empty{lock}, not_full{lock};
  struct state {
    counter size{0}, taken{0};
  };
  shared_with_forks<state> in;

  /// Who gets the lock of a dead owner cannot know whom that one was about to notify.
  void make_up_for_the_dead() {
    not_empty.notify_all();
    not_full.notify_all();
  }
  void wait(carom::condition& until, const std::function<bool()>& ready) {
    while (!ready()) {
      until.wait();
      if (lock.abandoned()) make_up_for_the_dead();
    }
  }
  void put() {
    if (lock.acquire().abandoned()) make_up_for_the_dead();
    wait(not_full, [&] { return in->size < capacity; });
    ++in->size;
    not_empty.notify();
    lock.release();
  }
  void take() {
    if (lock.acquire().abandoned()) make_up_for_the_dead();
    wait(not_empty, [&] { return in->size > 0; });
    --in->size;
    ++in->taken;
    not_full.notify();
    lock.release();
  }
};

TEST_F(Parity, Sync_condition_survives_kills) {
  buffer buffer;
  const std::uint64_t seed = carom::test::chosen_seed();
  SCOPED_TRACE("CAROM_SEED=" + std::to_string(seed));
  victims processes(seed);
  for (int i = 0; i < 2; ++i) {
    processes.add([&] { buffer.put(); });
    processes.add([&] { buffer.take(); });
  }
  for (int i = kills(150, 2000); i > 0; --i) {
    processes.kill_one();
    ASSERT_TRUE(goes_on([&] { return buffer.in->taken.load(); }));
    ASSERT_LE(buffer.in->size.load(), buffer::capacity);
  }
}

// Time-outs, notifications and deaths together: whoever is notified says so, and nothing sticks.
TEST_F(Parity, Sync_condition_survives_kills_of_timed_waiters) {
  carom::condition condition;
  shared_with_forks<counter> rounds;
  const std::uint64_t seed = carom::test::chosen_seed();
  SCOPED_TRACE("CAROM_SEED=" + std::to_string(seed));
  victims processes(seed);
  for (int i = 0; i < 3; ++i)
    processes.add([&] {
      condition.lock();
      condition.wait(200us);
      condition.notify();
      condition.unlock();
      ++*rounds;
    });
  for (int i = kills(150, 2000); i > 0; --i) {
    processes.kill_one();
    ASSERT_TRUE(goes_on([&] { return rounds->load(); }));
  }
}

TEST_F(Parity, Sync_barrier_survives_kills) {
  constexpr int parties = 3;
  carom::barrier barrier(parties);
  struct tally {
    std::array<counter, parties> passed{};
    counter broken{0}, strange{0};
  };
  shared_with_forks<tally> count;
  const std::uint64_t seed = carom::test::chosen_seed();
  SCOPED_TRACE("CAROM_SEED=" + std::to_string(seed));
  victims processes(seed);
  for (int i = 0; i < parties; ++i)
    processes.add([&] {
      try {
        const int number = barrier.wait();
        if (number < 0 || number >= parties)
          ++count->strange;
        else
          ++count->passed[static_cast<std::size_t>(number)];
      } catch (const carom::broken_barrier&) {
        ++count->broken;
        ::sched_yield();
      }
    });
  const auto passed = [&] {
    std::uint64_t sum = 0;
    for (const counter& one : count->passed) sum += one.load();
    return sum;
  };
  const int total = kills(150, 2000);
  for (int i = 0; i < total; ++i) {
    processes.kill_one();
    // Either the others are told, and somebody resets it; or it was not in there, and they pass.
    const std::uint64_t before = passed();
    ASSERT_TRUE(eventually([&] {
      if (barrier.broken()) barrier.reset();
      return passed() != before;
    }));
  }
  processes.end();
  EXPECT_EQ(count->strange.load(), 0u);
  // Each party that went on had one of each number; those that were killed did not count theirs.
  for (const counter& one : count->passed)
    EXPECT_LE(std::abs(static_cast<std::int64_t>(one.load() - count->passed[0].load())),
              2 * total + parties);
}

}  // namespace

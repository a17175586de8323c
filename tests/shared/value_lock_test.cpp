// SPDX-License-Identifier: BSL-1.0
// The locks of values and arrays: who may hold them, lend them, and die with them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <carom/shared.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <tuple>

#include "tests/shared/handles.hpp"
#include "tests/support/board.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using namespace carom::test;
using carom::raw_array;
using carom::raw_value;
using carom::value;
using testing::HasSubstr;

TEST_F(Parity, Shared_value_whose_second_handle_is_dropped_stays_locked) {
  value<int> v(1);
  {
    value<int> other = sent(v);
    other.get_lock().acquire();
  }
  EXPECT_FALSE(forked([&] { return v.get_lock().try_lock(); }).succeeded());
  v.get_lock().release();
  EXPECT_TRUE(forked([&] {
                const bool mine = v.get_lock().try_lock();
                if (mine) v.get_lock().release();
                return mine;
              }).succeeded());
}

TEST_F(Parity, Shared_value_get_obj_and_get_lock) {
  value<int> v(5);
  carom::object_lock lock = v.get_lock();
  raw_value<int> raw = v.get_obj();
  {
    const std::scoped_lock held(lock);
    *raw = 6;
    EXPECT_EQ(v.get(), 6) << "its owner may take the lock again";
    std::thread other([&] {
      EXPECT_FALSE(v.get_lock().try_lock());
      EXPECT_TRUE(v.get_lock().acquire(1ms).timed_out());
    });
    other.join();
  }
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST_F(Parity, Shared_value_lock_that_is_not_held_cannot_be_released) {
  value<int> v;
  EXPECT_THAT(message_of([&] { v.get_lock().release(); }), HasSubstr("not held"));
  v.get_lock().acquire();
  v.get_lock().acquire();
  v.get_lock().release();
  std::thread other([&] {
    EXPECT_THAT(message_of([&] { v.get_lock().release(); }),
                HasSubstr("another thread or process"));
  });
  other.join();
  v.get_lock().release();
  EXPECT_THAT(message_of([&] { v.get_lock().release(); }), HasSubstr("not held"));
  v.set(1);
}

TEST_F(Parity, Shared_value_lock_travels) {
  value<int> v;
  carom::object_lock lock = sent(v.get_lock());
  const std::scoped_lock held(lock);
  std::thread other([&] { EXPECT_FALSE(v.get_lock().try_lock()); });
  other.join();
}

TEST_F(Parity, Shared_value_with_a_lock_of_others) {
  carom::rlock guard;
  value<int> a(1, guard), b(2, guard);
  carom::exclusive_lock plain;
  value<int> c(3, plain);
  EXPECT_EQ(a.get() + b.get() + c.get(), 6);
  const std::scoped_lock held(guard, plain);
  EXPECT_EQ(sent(a).get(), 1) << "the owner's, again";
  EXPECT_THAT(message_of([&] { c.get(); }), HasSubstr("deadlock"));
  std::thread other([&] {
    EXPECT_FALSE(sent(b).get_lock().try_lock());
    EXPECT_FALSE(sent(c).get_lock().try_lock());
  });
  other.join();
}

TEST_F(Parity, Shared_synchronized) {
  raw_value<int> raw(1);
  value<int> first = carom::synchronized(raw), second = carom::synchronized(sent(raw));
  first.get_lock().acquire();
  std::thread other([&] { EXPECT_FALSE(second.get_lock().try_lock()) << "one lock for all"; });
  other.join();
  first.get_lock().release();
  carom::rlock guard;
  value<int> third = carom::synchronized(raw, guard);
  third.set(9);
  EXPECT_EQ(*raw, 9);
  auto elements = carom::synchronized(raw_array<int>{1, 2});
  elements.set(0, 7);
  EXPECT_EQ(carom::synchronized(elements.get_obj(), guard).get(0), 7);
}

TEST_F(Parity, Shared_value_lock_of_a_dead_owner) {
  value<int> v(1);
  forked child([&] {
    v.get_lock().acquire();
    v.get_obj().set(-1);
    board::set(0, 1);
    for (;;) ::pause();
    return true;
  });
  ASSERT_TRUE(board::wait(0));
  EXPECT_TRUE(v.get_lock().acquire(1ms).timed_out());
  child.kill();
  const carom::acquire_result got = v.get_lock().acquire(30s);
  EXPECT_TRUE(got.abandoned());
  EXPECT_TRUE(v.get_lock().abandoned());
  v.get_lock().release();
  EXPECT_FALSE(v.get_lock().acquire().abandoned()) << "it was told once";
  EXPECT_FALSE(v.get_lock().abandoned());
  v.get_lock().release();
  EXPECT_TRUE(v.damaged()) << "until somebody repairs it";
  v.with([](int& n, bool damaged) {
    EXPECT_TRUE(damaged);
    n = 1;
  });
  EXPECT_FALSE(v.damaged());
  v.with([](int&, bool damaged) { EXPECT_FALSE(damaged); });
}

TEST_F(Parity, Shared_value_lock_of_others_whose_owner_died) {
  carom::rlock guard;
  value<int> v(1, guard);
  forked child([&] {
    guard.lock();
    board::set(0, 1);
    for (;;) ::pause();
    return true;
  });
  ASSERT_TRUE(board::wait(0));
  child.kill();
  EXPECT_EQ(v.get(), 1);
  EXPECT_TRUE(v.damaged());
}

TEST_F(Parity, Shared_value_and_array_tell_of_a_dead_owner_before_anybody_takes_the_lock) {
  value<int> v(1);
  carom::array<int> elements(3);
  forked child([&] {
    elements.get_lock().acquire();
    v.with([&](int&) {
      board::set(0, 1);
      for (;;) ::pause();
    });
    return true;
  });
  ASSERT_TRUE(board::wait(0));
  EXPECT_FALSE(v.damaged()) << "it lives";
  child.kill();
  EXPECT_TRUE(v.damaged());
  EXPECT_TRUE(elements.damaged());
  EXPECT_TRUE(elements.get_lock().acquire(30s).abandoned()) << "that is still to be heard";
  EXPECT_TRUE(elements.damaged());
  elements.get_lock().release();
  v.with([](int&, bool damaged) { EXPECT_TRUE(damaged); });
  EXPECT_FALSE(v.damaged());
  v.with([&](int&) { EXPECT_FALSE(v.damaged()) << "this thread lives"; });
  EXPECT_TRUE(v.get_lock().try_lock()) << "nobody has been left with it";
  v.get_lock().unlock();
}

/// The next owner of a lock that guards many objects may have to do with another one first.
TEST_F(Parity, Shared_value_beside_others_under_one_lock_knows_of_the_death_in_it) {
  carom::rlock guard;
  value<int> a(1, guard), b(2, guard);
  auto c = carom::synchronized(raw_array<int>{3, 4}, guard);
  forked child([&] {
    a.with([&](int& n) {
      b.set(5);  // whole again before the death
      n = 0;
      board::set(0, 1);
      for (;;) ::pause();
    });
    return true;
  });
  ASSERT_TRUE(board::wait(0));
  child.kill();
  EXPECT_TRUE(guard.acquire().abandoned());
  guard.unlock();
  b.with([](int& n, bool damaged) {
    EXPECT_EQ(n, 5);
    EXPECT_FALSE(damaged);
  });
  c.with([](auto&&, bool damaged) { EXPECT_FALSE(damaged); });
  a.with([&](int& n, bool damaged) {
    EXPECT_TRUE(damaged);
    n = 1;
    a.with([](int&, bool) {});
    EXPECT_EQ(b.get(), 5);
  });
  EXPECT_FALSE(a.damaged());
  a.with([](int&, bool damaged) { EXPECT_FALSE(damaged); });
}

TEST_F(Parity, Shared_value_last_handle_dropped_while_locked) {
  carom::detail::blob packed;
  {
    value<int> dropped;
    carom::detail::encode(packed, dropped);
    value<int> last = sent(dropped);
    last.get_lock().acquire();
  }
  const carom::detail::descriptor_scope in_reach(packed.find_descriptors());
  auto kept = std::get<0>(carom::detail::decode<value<int>>(packed.bytes()));
  EXPECT_TRUE(kept.get_lock().acquire(30s));
  kept.get_lock().release();
  EXPECT_TRUE(kept.damaged());
}

TEST_F(Parity,
       Shared_value_lock_of_a_dead_thread_is_told_though_the_last_handle_was_dropped_first) {
  auto v = std::make_optional<value<int>>(1);
  forked other([&] {
    board::wait(0);
    const auto how = v->get_lock().acquire(10s);
    return how.abandoned() && v->get_lock().abandoned() && v->damaged();
  });
  std::thread([&] { v->get_lock().acquire(); }).join();
  v.reset();
  board::set(0, 1);
  EXPECT_TRUE(other.succeeded());
}

TEST_F(Parity, Shared_value_lock_held_by_who_drops_the_last_handle_is_told) {
  auto v = std::make_optional<value<int>>(1);
  forked other([&] {
    board::wait(0);
    const auto how = v->get_lock().acquire(10s);
    return how.abandoned() && v->damaged();
  });
  v->get_lock().acquire();
  v.reset();
  board::set(0, 1);
  EXPECT_TRUE(other.succeeded());
}

TEST_F(Parity, Shared_value_lock_tells_of_a_death_behind_one_who_released_what_it_did_not_hold) {
  value<int> v(1);
  std::thread([&] { v.get_lock().acquire(); }).join();
  EXPECT_THAT(message_of([&] { v.get_lock().release(); }), HasSubstr("not held"));
  EXPECT_TRUE(v.get_lock().acquire().abandoned());
  EXPECT_TRUE(v.damaged());
  v.get_lock().release();
  EXPECT_FALSE(v.get_lock().acquire().abandoned()) << "told once";
  v.get_lock().release();
}

TEST_F(Parity, Shared_value_whose_handle_is_given_another_object_meanwhile) {
  value<int> v(1);
  const value<int> first = v;
  v.with([&](int& n) {
    v = value<int>(2);
    n = 5;
  });
  EXPECT_EQ(first.get(), 5);
  EXPECT_EQ(v.get(), 2);
  carom::array<int> a(2);
  const carom::array<int> before = a;
  a.with([&](std::span<int> all) {
    a = carom::array<int>(1);
    all[1] = 5;
  });
  EXPECT_EQ(before.get(1), 5);
  EXPECT_EQ(a.size(), 1u);
}

/// A forked copy's thread is not inside of what the thread that forked is inside of.
TEST_F(Parity, Shared_value_of_who_died_inside_is_damaged_for_its_forked_copy) {
  carom::lock guard;
  carom::raw_value<int> raw(1);
  auto v = carom::synchronized(raw, guard);
  forked parent([&] {
    forked* child = nullptr;
    v.with([&](int&) {
      child = new forked([&] {
        ::prctl(PR_SET_PDEATHSIG, 0);  // it outlives its parent
        board::set(0, 1);
        // By the object's own lock: that of the dead tells nothing here.
        bool told = false;
        board::wait(1);
        carom::synchronized(raw).with([&](int&, bool damaged) { told = damaged; });
        board::set(2, told ? 2 : 1);
        return true;
      });
      board::wait(0);
      ::_exit(0);
    });
    return false;
  });
  EXPECT_TRUE(parent.succeeded());
  board::set(1, 1);
  EXPECT_TRUE(board::wait(2));
  EXPECT_EQ(board::get(2), 2u);
}

}  // namespace

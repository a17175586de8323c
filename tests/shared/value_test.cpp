// SPDX-License-Identifier: BSL-1.0
// value, array and their raw kin: the row of api.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <carom/errors.hpp>
#include <carom/shared.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <ranges>
#include <string>
#include <thread>
#include <vector>

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
using testing::ElementsAre;
using testing::HasSubstr;

struct point {
  int x = 1;
  double y = 0;
  bool operator==(const point&) const = default;
};

/// Sets values of several types in another process.
template <template <class> class Value>
void set_elsewhere() {
  Value<int> i(4343);
  Value<double> d(3.625);
  Value<short> h(-232);
  Value<char> c('x');
  Value<point> p(point{3, 4.5});
  EXPECT_EQ(i.get(), 4343);
  EXPECT_EQ(d.get(), 3.625);
  EXPECT_EQ(h.get(), -232);
  EXPECT_EQ(c.get(), 'x');
  EXPECT_EQ(p.get(), (point{3, 4.5}));
  forked child([&] {
    i.set(24234);
    d.set(-4.25);
    h.set(234);
    c.set('y');
    p.set({6, 9});
    return true;
  });
  ASSERT_TRUE(child.succeeded());
  EXPECT_EQ(i.get(), 24234);
  EXPECT_EQ(d.get(), -4.25);
  EXPECT_EQ(h.get(), 234);
  EXPECT_EQ(c.get(), 'y');
  EXPECT_EQ(p.get(), (point{6, 9}));
}

TEST_F(Parity, Shared_value) { set_elsewhere<value>(); }
TEST_F(Parity, Shared_raw_value) { set_elsewhere<raw_value>(); }

TEST_F(Parity, Shared_value_begins_as_its_type_does) {
  EXPECT_EQ(value<int>().get(), 0);
  EXPECT_EQ(value<point>().get(), point{});
  EXPECT_EQ(raw_value<point>()->x, 1);
}

TEST_F(Parity, Shared_value_handle_that_was_sent_is_the_same_value) {
  value<int> here(1);
  value<int> there = sent(here);
  value<int> copied = there;
  copied.set(5);
  EXPECT_EQ(here.get(), 5);
  EXPECT_EQ(here.exchange(6), 5);
  EXPECT_EQ(*sent(here.get_obj()), 6);
}

TEST_F(Parity, Shared_value_with_counts_exactly) {
  value<long> counter;
  std::vector<forked> children;
  for (int c = 0; c < 4; ++c)
    children.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) counter.with([](long& n) { ++n; });
      return true;
    });
  for (forked& child : children) EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(counter.get(), 8000);
}

TEST_F(Parity, Shared_value_with_counts_exactly_among_threads) {
  value<long> counter;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) counter.with([](long& n) { ++n; });
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(counter.get(), 8000);
}

TEST_F(Parity, Shared_value_with_gives_what_the_function_gives) {
  value<int> v(20);
  EXPECT_EQ(v.with([](int& n) { return std::to_string(n); }), "20");
  EXPECT_EQ(v.with([](int& n, bool damaged) { return damaged ? -1 : n; }), 20);
  EXPECT_THROW(v.with([](int&) { throw std::runtime_error("no"); }), std::runtime_error);
  v.set(21);
  EXPECT_EQ(v.get(), 21) << "the lock was released";
}

TEST_F(Parity, Shared_value_that_was_moved_from_is_still_the_same) {
  value<int> v(1);
  value<int> moved = std::move(v);
  moved.set(2);
  EXPECT_EQ(v.get(), 2);
  v = std::move(moved);
  v.get_lock().acquire();
  moved.get_lock().release();

  carom::array<int> a(3);
  carom::array<int> moved_array = std::move(a);
  moved_array[1] = 5;
  EXPECT_THAT(a.to_vector(), ElementsAre(0, 5, 0));
}

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

TEST_F(Parity, Shared_copy) {
  value<point> from(point{2, 5.0});
  value<point> to = carom::copy(from);
  from.set({0, 0});
  EXPECT_EQ(to.get(), (point{2, 5.0}));
  from.get_lock().acquire();
  EXPECT_TRUE(to.get_lock().try_lock()) << "a lock of its own";
  to.get_lock().release();
  from.get_lock().release();
  raw_value<int> raw(3);
  EXPECT_EQ(carom::copy(raw).get(), 3);
  carom::array<int> elements{1, 2, 3};
  auto others = carom::copy(elements);
  elements.set(0, 9);
  EXPECT_THAT(others.to_vector(), ElementsAre(1, 2, 3));
  EXPECT_THAT(carom::copy(others.get_obj()), ElementsAre(1, 2, 3));
}

/// Prefix sums, computed in another process.
template <template <class> class Array>
void sum_elsewhere() {
  std::vector<int> expected{680, 626, 934, 821, 150, 233, 548, 982, 714, 831};
  Array<int> elements(expected);
  ASSERT_EQ(elements.size(), expected.size());
  EXPECT_EQ(elements[3], expected[3]);
  EXPECT_THAT(elements, testing::ElementsAreArray(expected));
  const auto sum_up = [](auto& all) {
    for (std::size_t i = 1; i < all.size(); ++i) all[i] += all[i - 1];
  };
  sum_up(expected);
  forked child([&] {
    sum_up(elements);
    return true;
  });
  EXPECT_TRUE(child.succeeded());
  EXPECT_THAT(elements, testing::ElementsAreArray(expected));
}

TEST_F(Parity, Shared_array) { sum_elsewhere<carom::array>(); }
TEST_F(Parity, Shared_raw_array) { sum_elsewhere<raw_array>(); }

TEST_F(Parity, Shared_array_slices) {
  carom::array<int> elements(std::views::iota(0, 10));
  EXPECT_THAT(elements.to_vector(2, 5), ElementsAre(2, 3, 4, 5, 6));
  EXPECT_THAT(elements.to_vector(8, 5), ElementsAre(8, 9));
  EXPECT_THAT(elements.to_vector(10), testing::IsEmpty());
  EXPECT_THROW(elements.to_vector(11), std::out_of_range);
  elements.assign(4, std::array{1, 2, 3, 4});
  EXPECT_THAT(elements.to_vector(), ElementsAre(0, 1, 2, 3, 1, 2, 3, 4, 8, 9));
  EXPECT_THROW(elements.assign(8, std::array{1, 2, 3}), std::out_of_range);
  EXPECT_EQ(elements.get(8), 8) << "nothing was changed";
  elements.with([](std::span<int> all) { std::ranges::fill(all, 5); });
  EXPECT_EQ(std::accumulate(elements.begin(), elements.end(), 0), 50);
}

TEST_F(Parity, Shared_array_index_out_of_range) {
  carom::array<int> elements(3);
  EXPECT_EQ(elements.at(2), 0);
  for (const std::size_t beyond : {std::size_t{3}, ~std::size_t{0}}) {
    EXPECT_THROW(elements.at(beyond), std::out_of_range);
    EXPECT_THROW(elements.get(beyond), std::out_of_range);
    EXPECT_THROW(elements.set(beyond, 1), std::out_of_range);
    EXPECT_THROW(std::as_const(elements).at(beyond), std::out_of_range);
  }
  EXPECT_THROW(raw_array<int>{}.at(0), std::out_of_range);
  elements.set(0, 1);
}

TEST_F(Parity, Shared_array_ways_to_make_one) {
  EXPECT_THAT(carom::array<int>(3), ElementsAre(0, 0, 0));
  EXPECT_THAT(carom::array<int>(2, 7), ElementsAre(7, 7));
  EXPECT_THAT((carom::array<int>{4, 5}), ElementsAre(4, 5));
  EXPECT_THAT(carom::array<double>(std::vector<int>{1, 2}), ElementsAre(1.0, 2.0));
  EXPECT_EQ(carom::array<point>(2)[1].x, 1) << "each as its type begins";
  EXPECT_TRUE(carom::array<int>(0).empty());
  auto odd = std::views::iota(0, 6) | std::views::filter([](int i) { return i % 2 != 0; });
  EXPECT_THAT(raw_array<int>(odd), ElementsAre(1, 3, 5));
  EXPECT_THROW(carom::array<int>(~std::size_t{0} / 4), std::invalid_argument);
  carom::array<long> large(std::size_t{1} << 30);  // 8 GiB that nobody touches
  large.set(large.size() - 1, 1);
  EXPECT_EQ(sent(large)[large.size() - 1], 1);
}

TEST_F(Parity, Shared_array_of_text) {
  carom::array<char> text(20);
  text.set_str("hello");
  forked child([&] {
    text.set_str(text.str() + text.str());
    return true;
  });
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(text.str(), "hellohello");
  text.set_str(std::string(20, 'x'));
  EXPECT_EQ(text.str(), std::string(20, 'x'));
  EXPECT_THROW(text.set_str(std::string(21, 'y')), std::out_of_range);
}

TEST_F(Parity, Shared_values_and_arrays_changed_elsewhere) {
  value<int> x(7);
  value<double> y(1.0 / 3.0);
  value<point> p(point{3, 2});
  carom::array<double> elements(std::views::iota(0, 10));
  forked child([&] {
    x.with([](int& v) { v *= 2; });
    y.with([](double& v) { v *= 2; });
    p.with([](point& v) { v = {v.x * 2, v.y * 2}; });
    elements.with([](std::span<double> all) {
      for (double& each : all) each *= 2;
    });
    return true;
  });
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(x.get(), 14);
  EXPECT_DOUBLE_EQ(y.get(), 2.0 / 3.0);
  EXPECT_EQ(p.get(), (point{6, 4}));
  for (std::size_t i = 0; i < 10; ++i) EXPECT_DOUBLE_EQ(elements[i], 2.0 * static_cast<double>(i));
}

TEST_F(Parity, Shared_atomics_need_no_lock) {
  raw_value<std::atomic<int>> counter;
  raw_array<std::atomic<int>> counters(4);
  std::vector<forked> children;
  for (int c = 0; c < 3; ++c)
    children.emplace_back([&] {
      for (unsigned i = 0; i < 1000; ++i) {
        ++*counter;
        ++counters[i % 4];
      }
      return true;
    });
  for (forked& child : children) EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(*counter, 3000);
  EXPECT_EQ(counters[2], 750);
}

struct alignas(1024) aligned {
  char bytes[1024];
};

TEST_F(Parity, Shared_values_are_aligned) {
  value<aligned> v;
  v.with([](aligned& at) { EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&at) % 1024, 0u); });
  raw_array<aligned> elements(3);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&elements[2]) % 1024, 0u);
}

TEST_F(Parity, Shared_wrong_type_is_refused) {
  value<int> v(1);
  EXPECT_THROW((sent_as<value<unsigned>>(v)), carom::encoding_error);
  EXPECT_THROW((sent_as<value<point>>(v)), carom::encoding_error);
  EXPECT_THROW((sent_as<raw_array<int>>(v.get_obj())), carom::encoding_error);
  EXPECT_EQ(sent(v).get(), 1);
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

TEST_F(Parity, Shared_cycles_leave_nothing_behind) {
  const int cycles = std::getenv("CAROM_FULL") ? 100'000 : 10'000;
  const auto before = holdings::now();
  for (int i = 0; i < cycles; ++i) {
    value<int> v(i);
    carom::array<int> elements(3);
    elements.set(1, v.get());
    if (i % 10 == 0) {
      ASSERT_EQ(sent(elements).get(1), i);
    }
  }
  EXPECT_TRUE(holdings::now().within(before)) << holdings::now();
}

}  // namespace

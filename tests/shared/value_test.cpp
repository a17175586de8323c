// SPDX-License-Identifier: BSL-1.0
// value and raw_value, and what arrays share with them: the row of api.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <carom/errors.hpp>
#include <carom/shared.hpp>
#include <cstdint>
#include <cstdlib>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/shared/handles.hpp"
#include "tests/shared/point.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace carom::test;
using carom::raw_array;
using carom::raw_value;
using carom::value;
using testing::ElementsAre;

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

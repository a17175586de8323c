// SPDX-License-Identifier: BSL-1.0
// Rows of api.md on what travels: user types, the containers of the standard library, any size.
#include <gtest/gtest.h>

#include <boost/serialization/base_object.hpp>
#include <boost/serialization/export.hpp>
#include <carom/carom.hpp>
#include <chrono>
#include <complex>
#include <deque>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

template <class T>
T echo(T value) {
  return value;
}

struct empty {
  friend bool operator==(const empty&, const empty&) = default;
  template <class Archive>
  void serialize(Archive&, unsigned) {}
};

struct order {
  std::string customer;
  std::vector<std::pair<std::string, double>> lines;
  std::optional<int> discount;
  friend bool operator==(const order&, const order&) = default;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& customer& lines& discount;
  }
};

enum class colour : std::uint8_t { red = 1, green = 200 };

struct shape {
  virtual ~shape() = default;
  virtual double area() const = 0;
  template <class Archive>
  void serialize(Archive&, unsigned) {}
};
struct square_shape : shape {
  double side = 0;
  double area() const override { return side * side; }
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& boost::serialization::base_object<shape>(*this);
    archive& side;
  }
};

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 4099);
  return text;
}

template <class T>
void expect_echoed(carom::pool& pool, const T& value) {
  EXPECT_EQ(pool.apply(echo<T>, value), value);
}

}  // namespace

TEST_F(Parity, Pool_apply_values_of_the_language) {
  carom::pool pool{{.processes = 1}};
  expect_echoed(pool, true);
  expect_echoed(pool, 'x');
  expect_echoed(pool, std::numeric_limits<std::int64_t>::min());
  expect_echoed(pool, std::numeric_limits<std::uint64_t>::max());
  expect_echoed(pool, 0.1F);
  expect_echoed(pool, std::numeric_limits<double>::infinity());
  expect_echoed(pool, colour::green);
}

TEST_F(Parity, Pool_apply_empty_values) {
  carom::pool pool{{.processes = 1}};
  expect_echoed(pool, std::string());
  expect_echoed(pool, std::vector<int>());
  expect_echoed(pool, std::map<int, int>());
  expect_echoed(pool, empty());
  expect_echoed(pool, order());
  expect_echoed(pool, std::optional<std::string>());
  expect_echoed(pool, std::vector<empty>(3));
}

TEST_F(Parity, Pool_apply_user_types) {
  carom::pool pool{{.processes = 1}};
  expect_echoed(pool, order{"Ada", {{"tea", 2.5}, {"", -1}}, 10});
  expect_echoed(pool, std::vector<order>(5, order{"B", {{"x", 1}}, std::nullopt}));
}

TEST_F(Parity, Pool_apply_standard_containers) {
  carom::pool pool{{.processes = 1}};
  expect_echoed(pool, std::vector<bool>{true, false, true});
  expect_echoed(pool, std::array<int, 3>{1, 2, 3});
  expect_echoed(pool, std::deque<std::string>{"a", "b"});
  expect_echoed(pool, std::list<int>{3, 1, 2});
  expect_echoed(pool, std::set<std::string>{"x", "y"});
  expect_echoed(pool, std::map<std::string, std::vector<int>>{{"a", {1}}, {"b", {}}});
  expect_echoed(pool, std::unordered_map<int, std::string>{{1, "one"}, {2, "two"}});
  expect_echoed(pool, std::pair<int, std::string>{1, "one"});
}

TEST_F(Parity, Pool_apply_optional_variant_tuple_chrono_path) {
  carom::pool pool{{.processes = 1}};
  using either = std::variant<int, std::string, std::vector<double>>;
  expect_echoed(pool, std::optional<std::vector<int>>{{1, 2}});
  expect_echoed(pool, either(5));
  expect_echoed(pool, either("five"));
  expect_echoed(pool, either(std::vector{0.5}));
  expect_echoed(pool, std::tuple<int, std::string, double>{1, "b", 2.5});
  expect_echoed(pool, std::tuple<>{});
  expect_echoed(pool, std::chrono::milliseconds(1500));
  expect_echoed(pool, std::chrono::system_clock::now());
  expect_echoed(pool, std::filesystem::path("/usr/share/doc"));
  expect_echoed(pool, std::complex<double>(1, -1));
}

BOOST_CLASS_EXPORT(square_shape)

TEST_F(Parity, Pool_apply_smart_and_polymorphic_pointers) {
  carom::pool pool{{.processes = 1}};
  EXPECT_EQ(*pool.apply(echo<std::shared_ptr<std::string>>, std::make_shared<std::string>("s")),
            "s");
  EXPECT_EQ(pool.apply(echo<std::unique_ptr<int>>, nullptr), nullptr);
  auto twice = std::make_shared<int>(8);
  const auto both = pool.apply(echo<std::pair<std::shared_ptr<int>, std::shared_ptr<int>>>,
                               std::pair(twice, twice));
  EXPECT_EQ(both.first, both.second) << "one object stays one object";
  auto square = std::make_shared<square_shape>();
  square->side = 3;
  EXPECT_EQ(pool.apply([](std::shared_ptr<shape> s) { return s->area(); }, square), 9);
}

TEST_F(Parity, Pool_apply_around_every_size_limit) {
  carom::pool pool{{.processes = 2}};
  for (const std::size_t limit : {64, 128, 4096, 32 * 1024, 64 * 1024, 128 * 1024, 256 * 1024})
    for (std::size_t size = limit - 40; size <= limit + 10; size += size < limit - 8 ? 8 : 1)
      expect_echoed(pool, pattern(size));
}

TEST_F(Parity, Pool_apply_large_arguments_and_results) {
  carom::pool pool{{.processes = 2}};
  const std::string large = pattern(8 << 20);
  EXPECT_EQ(pool.apply([](const std::string& s) { return s.size(); }, large), large.size());
  EXPECT_EQ(pool.apply(pattern, large.size()), large);
  expect_echoed(pool, large);
  std::vector<double> numbers(1 << 20);
  std::iota(numbers.begin(), numbers.end(), 0.5);
  expect_echoed(pool, numbers);
}

TEST_F(Parity, Pool_apply_many_large_arguments_at_once) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<std::string>> results;
  for (std::size_t i = 0; i < 60; ++i)
    results.push_back(pool.apply_async(echo<std::string>, pattern((i % 10) * 150'000 + i)));
  for (std::size_t i = 0; i < results.size(); ++i)
    EXPECT_EQ(results[i].get(), pattern((i % 10) * 150'000 + i)) << i;
}

TEST_F(Parity, Pool_apply_large_results_that_nobody_takes) {
  carom::pool pool{{.processes = 2}};
  for (int i = 0; i < 30; ++i) pool.apply_async(pattern, 1 << 20);
  EXPECT_EQ(pool.apply(tasks::square, 2), 4);
}

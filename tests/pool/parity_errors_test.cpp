// SPDX-License-Identifier: BSL-1.0
// Rows of api.md on errors: exceptions of tasks come back as themselves.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <filesystem>
#include <functional>
#include <ios>
#include <new>
#include <regex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <typeinfo>
#include <variant>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

struct quota_exceeded : std::runtime_error {
  using std::runtime_error::runtime_error;
};
CAROM_EXCEPTION(quota_exceeded);

/// Travels with its fields.
struct parse_error : std::runtime_error {
  parse_error() : runtime_error("") {}
  parse_error(const std::string& what, int at) : runtime_error(what), line(at) {}
  explicit parse_error(const std::string& what) : runtime_error(what) {}
  int line = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& line;
  }
};
CAROM_EXCEPTION(parse_error);

struct unregistered : std::logic_error {
  using std::logic_error::logic_error;
};

template <class E>
int fail_with(const std::string& what) {
  throw E(what);
}

/// The task's exception, by type and text.
template <class E, class F, class... As>
void expect_exactly(carom::pool& pool, const std::string& what, F f, As... as) {
  try {
    pool.apply(f, std::move(as)...);
    ADD_FAILURE() << "nothing thrown instead of " << typeid(E).name();
  } catch (const std::exception& e) {
    EXPECT_STREQ(typeid(e).name(), typeid(E).name());
    EXPECT_EQ(e.what(), what);
  }
}

template <class E>
void expect_same_type(carom::pool& pool) {
  expect_exactly<E>(pool, "the text", fail_with<E>, "the text");
}

struct refuses_to_be_packed {
  template <class Archive>
  void serialize(Archive&, unsigned) {
    if (Archive::is_saving::value) throw std::logic_error("I stay here");
  }
};
struct refuses_to_be_unpacked {
  template <class Archive>
  void serialize(Archive&, unsigned) {
    if (Archive::is_loading::value) throw std::logic_error("I do not come out");
  }
};

std::vector<std::string> causes_of(const std::exception& e) {
  std::vector<std::string> texts{e.what()};
  try {
    std::rethrow_if_nested(e);
  } catch (const std::exception& cause) {
    for (const std::string& each : causes_of(cause)) texts.push_back(each);
  }
  return texts;
}

}  // namespace

TEST_F(Parity, Pool_errors_standard_exceptions_as_themselves) {
  carom::pool pool{{.processes = 1}};
  expect_same_type<std::runtime_error>(pool);
  expect_same_type<std::logic_error>(pool);
  expect_same_type<std::invalid_argument>(pool);
  expect_same_type<std::domain_error>(pool);
  expect_same_type<std::length_error>(pool);
  expect_same_type<std::out_of_range>(pool);
  expect_same_type<std::range_error>(pool);
  expect_same_type<std::overflow_error>(pool);
  expect_same_type<std::underflow_error>(pool);
  EXPECT_THROW(pool.apply([] { throw std::bad_alloc(); }), std::bad_alloc);
  EXPECT_THROW(pool.apply([] { return std::vector<int>().at(5); }), std::out_of_range);
}

TEST_F(Parity, Pool_errors_system_error_keeps_its_code) {
  carom::pool pool{{.processes = 1}};
  try {
    pool.apply([] { throw std::system_error(ENOSPC, std::generic_category(), "disk"); });
    FAIL() << "nothing thrown";
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), std::errc::no_space_on_device);
    EXPECT_NE(std::string(e.what()).find("disk"), std::string::npos);
  }
}

TEST_F(Parity, Pool_errors_registered_types) {
  carom::pool pool{{.processes = 1}};
  expect_same_type<quota_exceeded>(pool);
  try {
    pool.apply([] { throw parse_error("bad line", 12); });
    FAIL() << "nothing thrown";
  } catch (const parse_error& e) {
    EXPECT_STREQ(e.what(), "bad line");
    EXPECT_EQ(e.line, 12);
  }
}

TEST_F(Parity, Pool_errors_own_errors_travel_too) {
  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(pool.apply([] { throw carom::timeout_error("late"); }), carom::timeout_error);
  EXPECT_THROW(pool.apply([] { throw carom::coro_stop(); }), carom::coro_stop);
}

TEST_F(Parity, Pool_errors_nested_causes) {
  carom::pool pool{{.processes = 1}};
  try {
    pool.apply([] {
      try {
        try {
          throw quota_exceeded("innermost");
        } catch (...) {
          std::throw_with_nested(std::out_of_range("middle"));
        }
      } catch (...) {
        std::throw_with_nested(std::runtime_error("outer"));
      }
    });
    FAIL() << "nothing thrown";
  } catch (const std::runtime_error& e) {
    EXPECT_EQ(causes_of(e), (std::vector<std::string>{"outer", "middle", "innermost"}));
    try {
      std::rethrow_if_nested(e);
    } catch (const std::out_of_range& middle) {
      EXPECT_THROW(std::rethrow_if_nested(middle), quota_exceeded);
    }
  }
}

TEST_F(Parity, Pool_errors_unknown_types_are_remote_errors) {
  carom::pool pool{{.processes = 1}};
  const pid_t worker = pool.apply(tasks::worker);
  try {
    pool.apply(fail_with<unregistered>, "who am I");
    FAIL() << "nothing thrown";
  } catch (const carom::remote_error& e) {
    EXPECT_NE(e.type_name().find("unregistered"), std::string::npos) << e.type_name();
    EXPECT_NE(std::string(e.what()).find("who am I"), std::string::npos) << e.what();
    EXPECT_EQ(e.pid(), worker);
  }
  try {
    pool.apply([] { throw 42; });
    FAIL() << "nothing thrown";
  } catch (const carom::remote_error& e) {
    EXPECT_EQ(e.type_name(), "int");
  }
}

TEST_F(Parity, Pool_errors_result_that_cannot_be_packed) {
  carom::pool pool{{.processes = 1}};
  const pid_t worker = pool.apply(tasks::worker);
  const auto bad = pool.apply_async([] { return refuses_to_be_packed(); });
  const auto good = pool.apply_async(tasks::worker);
  try {
    bad.get();
    FAIL() << "nothing thrown";
  } catch (const carom::encoding_error& e) {
    EXPECT_EQ(causes_of(e).back(), "I stay here");
  }
  EXPECT_EQ(good.get(), worker) << "that task alone has failed";
}

TEST_F(Parity, Pool_errors_argument_that_cannot_be_packed) {
  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(pool.apply_async([](refuses_to_be_packed) {}, refuses_to_be_packed()),
               carom::encoding_error)
      << "at the call";
  EXPECT_EQ(pool.apply(tasks::square, 2), 4);
}

TEST_F(Parity, Pool_errors_values_that_cannot_be_unpacked) {
  carom::pool pool{{.processes = 1}};
  const pid_t worker = pool.apply(tasks::worker);
  const auto argument =
      pool.apply_async([](refuses_to_be_unpacked) { return 1; }, refuses_to_be_unpacked());
  const auto result = pool.apply_async([] { return refuses_to_be_unpacked(); });
  EXPECT_THROW(argument.get(), carom::encoding_error);
  EXPECT_THROW(result.get(), carom::encoding_error);
  EXPECT_EQ(pool.apply(tasks::worker), worker);
}

TEST_F(Parity, Pool_errors_call_without_a_function) {
  EXPECT_THROW(carom::pool({.processes = 1, .initializer = carom::packed_call()}),
               std::invalid_argument);
}

TEST_F(Parity, Pool_errors_large_texts) {
  carom::pool pool{{.processes = 1}};
  const std::string large(300'000, 'e');
  expect_exactly<std::runtime_error>(pool, large, fail_with<std::runtime_error>, large);
}

TEST_F(Parity, Pool_errors_of_many_tasks) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 2000; ++i)
    results.push_back(pool.apply_async(
        [](int x) {
          if (x % 3 == 0) throw quota_exceeded(std::to_string(x));
          return x;
        },
        i));
  for (int i = 0; i < 2000; ++i) {
    const auto& result = results[static_cast<std::size_t>(i)];
    if (i % 3)
      EXPECT_EQ(result.get(), i);
    else
      EXPECT_THROW(result.get(), quota_exceeded);
  }
}

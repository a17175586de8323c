// SPDX-License-Identifier: BSL-1.0
// Exceptions come back as themselves, or as remote_error.
#include <carom/errors.hpp>
#include <carom/exception.hpp>

#include <gtest/gtest.h>

#include <any>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <typeinfo>
#include <variant>
#include <vector>

#include "tests/serialization/travelling_exceptions.hpp"

namespace {

using namespace travelling_exceptions;

TEST(Exceptions, of_stdexcept_come_back_as_themselves) {
  expect_same_text(std::logic_error("text"));
  expect_same_text(std::domain_error("text"));
  expect_same_text(std::invalid_argument("text"));
  expect_same_text(std::length_error("text"));
  expect_same_text(std::out_of_range("text"));
  expect_same_text(std::runtime_error(""));
  expect_same_text(std::range_error("text"));
  expect_same_text(std::overflow_error("text"));
  expect_same_text(std::underflow_error(std::string(100'000, 'x')));
}

TEST(Exceptions, without_text_come_back_as_themselves) {
  expect_same_text(std::exception{});
  expect_same_text(std::bad_exception{});
  expect_same_text(std::bad_alloc{});
  expect_same_text(std::bad_array_new_length{});
  expect_same_text(std::bad_cast{});
  expect_same_text(std::bad_typeid{});
  expect_same_text(std::bad_function_call{});
  expect_same_text(std::bad_optional_access{});
  expect_same_text(std::bad_variant_access{});
  expect_same_text(std::bad_any_cast{});
  expect_same_text(std::bad_weak_ptr{});
}

TEST(Exceptions, that_the_library_throws_come_back_as_themselves) {
  comes_back_as<std::out_of_range>([] { (void)std::vector<int>{}.at(3); });
  comes_back_as<std::bad_variant_access>([] { (void)std::get<1>(std::variant<int, bool>{}); });
  comes_back_as<std::bad_optional_access>([] { (void)std::optional<int>{}.value(); });
  comes_back_as<std::bad_any_cast>([] { (void)std::any_cast<int>(std::any{}); });
  comes_back_as<std::bad_function_call>([] { std::function<void()>{}(); });
  comes_back_as<std::invalid_argument>([] { (void)std::stoi("no number"); });
  comes_back_as<std::bad_weak_ptr>([] { std::shared_ptr<int>{std::weak_ptr<int>{}}; });
  const auto failure = comes_back_as<std::ios_base::failure>([] {
    std::ifstream file;
    file.exceptions(std::ios::failbit);
    file.open("/nonexistent");
  });
  EXPECT_EQ(failure.code(), std::io_errc::stream);
}

TEST(Exceptions, system_errors_keep_code_category_and_text) {
  for (const std::error_category* category : {&std::generic_category(), &std::system_category()}) {
    const std::system_error error{2, *category, "open file"};
    expect_same_text(error);
    expect_same_text(std::system_error{2, *category});
    expect_same_text(std::system_error{2, *category, ""});
    EXPECT_EQ(comes_back_as<std::system_error>([&] { throw error; }).code(), error.code());
  }
}

TEST(Exceptions, future_errors_keep_their_code) {
  const auto error =
      comes_back_as<std::future_error>([] { throw std::future_error(std::future_errc::no_state); });
  EXPECT_EQ(error.code(), std::future_errc::no_state);
}

TEST(Exceptions, filesystem_errors_keep_code_text_and_paths) {
  using std::filesystem::filesystem_error;
  const std::error_code code{2, std::system_category()};
  expect_same_text(filesystem_error{"move", code});
  expect_same_text(filesystem_error{"move", "/a", code});
  expect_same_text(filesystem_error{"move", "/a", "/b", code});
  const auto error =
      comes_back_as<filesystem_error>([&] { throw filesystem_error("move", "/a", "/b", code); });
  EXPECT_EQ(error.path1(), "/a");
  EXPECT_EQ(error.path2(), "/b");
  EXPECT_EQ(error.code(), code);
}

class own_category : public std::error_category {
  const char* name() const noexcept override { return "own"; }
  std::string message(int value) const override { return "own message " + std::to_string(value); }
  std::error_condition default_error_condition(int value) const noexcept override {
    if (value == 1) return std::errc::timed_out;
    return {value, *this};
  }
};
const own_category own_errors;

TEST(Exceptions, a_system_error_of_an_unknown_category_is_one_of_that_name) {
  expect_same_text(std::system_error(1, own_errors, "text"));
  expect_same_text(std::system_error(2, own_errors));
  const auto error =
      comes_back_as<std::system_error>([] { throw std::system_error(1, own_errors, "text"); });
  EXPECT_STREQ(error.what(), "text: own message 1");
  EXPECT_STREQ(error.code().category().name(), "own");
  EXPECT_EQ(error.code().value(), 1);
  EXPECT_EQ(error.code(), std::errc::timed_out);
  const auto other =
      comes_back_as<std::system_error>([] { throw std::system_error(2, own_errors); });
  EXPECT_EQ(&other.code().category(), &error.code().category());
  EXPECT_EQ(other.code().message(), "own message 2");
  EXPECT_NE(other.code(), error.code());
  EXPECT_NE(other.code(), std::errc::timed_out);
}

TEST(Exceptions, categories_without_number_take_no_memory_without_end) {
  struct numbered : std::error_category {
    explicit numbered(int number) : name_("category " + std::to_string(number)) {}
    const char* name() const noexcept override { return name_.c_str(); }
    std::string message(int) const override { return "own message"; }
    std::string name_;
  };
  for (int i = 0; i < 1000; ++i) {
    const numbered category(i);
    const auto error =
        comes_back_as<std::system_error>([&] { throw std::system_error(i, category, "text"); });
    EXPECT_EQ(error.code().value(), i);
    EXPECT_TRUE(std::string(error.what()).starts_with("text: "));
    if (i == 999) {
      EXPECT_STREQ(error.code().category().name(), "remote");
    }
  }
}

TEST(Exceptions, of_carom_come_back_with_their_fields) {
  expect_same_text(carom::error("text"));
  expect_same_text(carom::process_error("text"));
  expect_same_text(carom::timeout_error());
  expect_same_text(carom::authentication_error());
  expect_same_text(carom::encoding_error("text"));
  expect_same_text(carom::queue_empty());
  expect_same_text(carom::queue_full());
  expect_same_text(carom::pool_closed("text"));
  expect_same_text(carom::start_method_error("text"));
  expect_same_text(carom::broken_barrier());
  expect_same_text(carom::coro_stop());
  expect_same_text(carom::time_limit_exceeded({.task_name = "t", .task_id = 1, .pid = 2}));
  expect_same_text(carom::soft_time_limit_exceeded({.task_id = 1, .limit = std::chrono::hours{1}}));
  expect_same_text(carom::terminated({.signal = 9, .pid = 4, .task_name = "t", .task_id = 1}));
  expect_same_text(carom::restart_freq_exceeded({.restarts = 5, .cause = "c"}));
  expect_same_text(carom::memory_limit_exceeded({.task_id = 3, .limit = 1, .memory = 2}));
  expect_same_text(carom::remote_error({"type", "text", 5}));
  expect_same_text(carom::unknown_task({"task", "reason"}));

  const auto lost = comes_back_as<carom::worker_lost>([] {
    throw carom::worker_lost({.pid = 1,
                              .signal = 2,
                              .exit_code = 3,
                              .task_name = "t",
                              .task_id = 5,
                              .run_time = std::chrono::nanoseconds{6},
                              .memory = 7,
                              .attempts = 8,
                              .cause = "c",
                              .backtrace = "b"});
  });
  EXPECT_EQ(lost.pid(), 1);
  EXPECT_EQ(lost.signal(), 2);
  EXPECT_EQ(lost.exit_code(), 3);
  EXPECT_EQ(lost.task_name(), "t");
  EXPECT_EQ(lost.task_id(), 5U);
  EXPECT_EQ(lost.run_time(), std::chrono::nanoseconds{6});
  EXPECT_EQ(lost.memory(), 7U);
  EXPECT_EQ(lost.attempts(), 8U);
  EXPECT_EQ(lost.cause(), "c");
  EXPECT_EQ(lost.backtrace(), "b");

  const auto cut = comes_back_as<carom::buffer_too_short>(
      [] { throw carom::buffer_too_short({.message = {std::byte{5}}, .capacity = 0}); });
  ASSERT_EQ(cut.message().size(), 1U);
  EXPECT_EQ(cut.message()[0], std::byte{5});
}

TEST(Exceptions, registered_types_come_back_as_themselves) {
  expect_same_text(with_text("text"));
  expect_same_text(last("final"));
  EXPECT_EQ(comes_back_as<no_exception_at_all>([] { throw no_exception_at_all{7}; }).code, 7);
  const auto both = comes_back_as<with_both>([] {
    with_both error("text");
    error.code = 8;
    throw error;
  });
  EXPECT_STREQ(both.what(), "text");
  EXPECT_EQ(both.code, 8);
}

TEST(Exceptions, only_exactly_the_registered_type_is_meant) {
  const auto error = comes_back_as<carom::remote_error>([] { throw not_registered("text"); });
  EXPECT_EQ(error.type_name(), "travelling_exceptions::not_registered");
  EXPECT_STREQ(error.what(), "text");
  EXPECT_EQ(error.pid(), some_pid);
}

TEST(Exceptions, that_are_no_exceptions_become_remote_errors) {
  EXPECT_EQ(comes_back_as<carom::remote_error>([] { throw 42; }).type_name(), "int");
  EXPECT_STREQ(comes_back_as<carom::remote_error>([] { throw "text"; }).what(), "text");
  EXPECT_STREQ(comes_back_as<carom::remote_error>([] { throw std::string("text"); }).what(),
               "text");
}

TEST(Exceptions, a_remote_error_keeps_its_origin_over_a_second_hop) {
  const auto error = comes_back_as<carom::remote_error>([] {
    throw carom::remote_error({"type", "text", 1});
  });
  EXPECT_EQ(error.pid(), 1);
  EXPECT_EQ(error.type_name(), "type");
}

TEST(Exceptions, that_fail_to_travel_become_remote_errors) {
  const auto error = comes_back_as<carom::remote_error>([] { throw fails_to_travel("text"); });
  EXPECT_EQ(error.type_name(), "travelling_exceptions::fails_to_travel");
  EXPECT_STREQ(error.what(), "text");
}

}  // namespace

namespace {
struct hidden : std::runtime_error {
  using std::runtime_error::runtime_error;
};
}  // namespace
CAROM_EXCEPTION(hidden);

TEST(ExceptionsInUnnamedNamespaces, travel_when_their_name_is_the_only_one) {
  expect_same_text(hidden("text"));
}

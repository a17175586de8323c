// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>
#include <carom/exception.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <any>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <random>
#include <system_error>
#include <variant>

namespace travelling_exceptions {

struct with_text : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct not_registered : with_text {
  using with_text::with_text;
};
/// Text and fields; no std::exception constructor that takes both.
struct with_both : std::runtime_error {
  using std::runtime_error::runtime_error;
  int code = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& code;
  }
};
struct no_exception_at_all {
  int code = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& code;
  }
};
struct last final : std::exception {
  explicit last(const char* text) : text_{text} {}
  const char* what() const noexcept override { return text_.c_str(); }
  std::string text_;
};
struct fails_to_travel : std::runtime_error {
  using std::runtime_error::runtime_error;
  template <class Archive>
  void serialize(Archive&, unsigned) {
    throw std::logic_error("not today");
  }
};
struct nests_itself : std::runtime_error, std::nested_exception {
  using std::runtime_error::runtime_error;
};

}  // namespace travelling_exceptions

CAROM_EXCEPTION(travelling_exceptions::with_text);
CAROM_EXCEPTION(travelling_exceptions::with_text);  // twice does no harm
CAROM_EXCEPTION(travelling_exceptions::with_both);
CAROM_EXCEPTION(travelling_exceptions::no_exception_at_all);
CAROM_EXCEPTION(travelling_exceptions::last);
CAROM_EXCEPTION(travelling_exceptions::fails_to_travel);
CAROM_EXCEPTION(travelling_exceptions::nests_itself);

namespace {

using namespace travelling_exceptions;
using carom::detail::blob;
using carom::detail::decode_exception;
using carom::detail::encode_exception;
using testing::HasSubstr;

constexpr int some_pid = 4321;

std::exception_ptr travel(const std::exception_ptr& exception) {
  blob out;
  encode_exception(out, exception, some_pid);
  return decode_exception(out.bytes());
}

/// What comes back when `act` throws: a copy, which must have exactly the type T.
template <class T, class F>
T comes_back_as(F act) {
  std::exception_ptr thrown;
  try {
    act();
  } catch (...) {
    thrown = std::current_exception();
  }
  try {
    std::rethrow_exception(travel(thrown));
  } catch (const T& result) {
    if constexpr (std::is_polymorphic_v<T>) {
      EXPECT_STREQ(typeid(result).name(), typeid(T).name());
    }
    return result;
  }
}

template <class T>
void expect_same_text(const T& original) {
  EXPECT_STREQ(comes_back_as<T>([&] { throw original; }).what(), original.what());
}

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
  std::string message(int) const override { return "own message"; }
};

TEST(Exceptions, a_system_error_of_an_unknown_category_keeps_its_text) {
  static const own_category category;
  const auto error =
      comes_back_as<carom::remote_error>([] { throw std::system_error(1, category, "text"); });
  EXPECT_STREQ(error.what(), "text: own message");
  EXPECT_EQ(error.type_name(), "std::system_error");
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

/// "what <- what of its cause <- …" of what comes back.
std::string story(const std::exception_ptr& exception) {
  if (exception == nullptr) return "nothing";
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    const auto* nested = dynamic_cast<const std::nested_exception*>(&error);
    std::string text = error.what();
    if (nested != nullptr && nested->nested_ptr()) text += " <- " + story(nested->nested_ptr());
    return text;
  } catch (const no_exception_at_all& error) {
    return std::to_string(error.code);
  }
}

template <class F>
std::exception_ptr caught(F act) {
  try {
    act();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

/// `outer` with `cause` as its nested exception.
template <class T>
std::exception_ptr nest(const std::exception_ptr& cause, const T& outer) {
  return caught([&] {
    try {
      std::rethrow_exception(cause);
    } catch (...) {
      std::throw_with_nested(outer);
    }
  });
}

TEST(NestedExceptions, keep_their_types_and_causes) {
  const auto chain =
      nest(nest(std::make_exception_ptr(no_exception_at_all{5}), with_text("middle")),
           std::runtime_error("outer"));
  EXPECT_EQ(story(travel(chain)), "outer <- middle <- 5");
  try {
    std::rethrow_exception(travel(chain));
  } catch (const std::runtime_error& outer) {
    EXPECT_THROW(std::rethrow_if_nested(outer), with_text);
  }
}

TEST(NestedExceptions, keep_their_types_however_they_were_nested) {
  const auto chain = caught([] {
    try {
      throw std::out_of_range("inner");
    } catch (...) {
      std::throw_with_nested(with_text("outer"));  // an rvalue; `nest` nests a constant
    }
  });
  EXPECT_THROW(std::rethrow_exception(travel(chain)), with_text);
  EXPECT_EQ(story(travel(chain)), "outer <- inner");
}

TEST(NestedExceptions, keep_fields_and_remote_errors) {
  const auto lost = nest(std::make_exception_ptr(not_registered("inner")),
                         carom::worker_lost({.pid = 3, .signal = 11}));
  try {
    std::rethrow_exception(travel(lost));
  } catch (const carom::worker_lost& error) {
    EXPECT_EQ(error.pid(), 3);
    EXPECT_THROW(std::rethrow_if_nested(error), carom::remote_error);
  }
  const auto remote = nest(std::make_exception_ptr(std::bad_alloc{}), not_registered("outer"));
  try {
    std::rethrow_exception(travel(remote));
  } catch (const carom::remote_error& error) {
    EXPECT_EQ(error.type_name(), "travelling_exceptions::not_registered");
    EXPECT_THROW(std::rethrow_if_nested(error), std::bad_alloc);
  }
}

TEST(NestedExceptions, of_types_that_nest_themselves_travel) {
  const auto chain = caught([] {
    try {
      throw std::out_of_range("inner");
    } catch (...) {
      throw nests_itself("outer");
    }
  });
  EXPECT_EQ(story(travel(chain)), "outer <- inner");
}

TEST(NestedExceptions, are_cut_at_sixteen) {
  auto chain = std::make_exception_ptr(std::runtime_error("x"));
  for (int i = 1; i < 40; ++i) chain = nest(chain, std::runtime_error("x"));
  std::string expected = "x";
  for (int i = 1; i < carom::detail::max_exception_chain; ++i) expected += " <- x";
  EXPECT_EQ(story(travel(chain)), expected);
}

TEST(ExceptionBytes, null_is_null) { EXPECT_EQ(travel(nullptr), nullptr); }

TEST(ExceptionBytes, follow_what_is_in_the_blob) {
  blob out;
  out.append("head", 4);
  encode_exception(out, std::make_exception_ptr(with_text("text")), 1);
  EXPECT_EQ(story(decode_exception(out.bytes().subspan(4))), "text");
}

TEST(ExceptionBytes, with_a_name_that_is_unknown_here_are_a_remote_error) {
  blob out;
  encode_exception(out, std::make_exception_ptr(with_text("text")), 9);
  // The mangled name begins behind the count of exceptions and its own length.
  *(out.data() + 1 + 8) = std::byte{'X'};
  try {
    std::rethrow_exception(decode_exception(out.bytes()));
  } catch (const carom::remote_error& error) {
    EXPECT_EQ(error.type_name(), "travelling_exceptions::with_text");
    EXPECT_STREQ(error.what(), "text");
    EXPECT_EQ(error.pid(), 9);
  }
}

blob some_chain() {
  blob out;
  encode_exception(
      out,
      nest(nest(std::make_exception_ptr(std::filesystem::filesystem_error("a", "b", "c", {})),
                carom::worker_lost({.task_name = "task", .cause = "cause"})),
           with_both("text")),
      1);
  return out;
}

TEST(ExceptionBytes, cut_short_or_left_over_are_an_encoding_error) {
  blob out = some_chain();
  for (std::size_t size = 0; size < out.size(); ++size) {
    const std::vector<std::byte> cut(out.data(), out.data() + size);
    EXPECT_THROW(std::rethrow_exception(decode_exception(cut)), carom::encoding_error) << size;
  }
  out.append("", 1);
  EXPECT_THROW(std::rethrow_exception(decode_exception(out.bytes())), carom::encoding_error);
}

TEST(ExceptionBytes, survive_any_corruption) {
  const blob good = some_chain();
  std::mt19937_64 random{815};
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> bad(good.data(), good.data() + good.size());
    for (int flips = 0; flips < 1 + round % 4; ++flips)
      bad[random() % bad.size()] = static_cast<std::byte>(random());
    const auto result = decode_exception(bad);
    EXPECT_TRUE(result != nullptr || bad[0] == std::byte{0});
  }
}

TEST(ExceptionBytes, may_be_taken_from_a_process_that_decodes_in_a_handler) {
  blob out;
  encode_exception(out, std::make_exception_ptr(with_text("text")), 1);
  try {
    throw std::out_of_range("another matter");
  } catch (...) {
    EXPECT_EQ(story(decode_exception(out.bytes())), "text");
  }
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

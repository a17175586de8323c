// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <carom/detail/exception_codec.hpp>
#include <carom/exception.hpp>

#include <gtest/gtest.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <typeinfo>

// The kinds of users' exceptions that travel, and what a test does with them.

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

inline constexpr int some_pid = 4321;

inline std::exception_ptr travel(const std::exception_ptr& exception) {
  carom::detail::blob out;
  carom::detail::encode_exception(out, exception, some_pid);
  return carom::detail::decode_exception(out.bytes());
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

/// "what <- what of its cause <- …" of what comes back.
inline std::string story(const std::exception_ptr& exception) {
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

}  // namespace travelling_exceptions

CAROM_EXCEPTION(travelling_exceptions::with_text);
CAROM_EXCEPTION(travelling_exceptions::with_text);  // twice does no harm
CAROM_EXCEPTION(travelling_exceptions::with_both);
CAROM_EXCEPTION(travelling_exceptions::no_exception_at_all);
CAROM_EXCEPTION(travelling_exceptions::last);
CAROM_EXCEPTION(travelling_exceptions::fails_to_travel);
CAROM_EXCEPTION(travelling_exceptions::nests_itself);

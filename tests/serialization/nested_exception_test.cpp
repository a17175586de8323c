// SPDX-License-Identifier: BSL-1.0
// Exceptions with causes keep them.
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>

#include <gtest/gtest.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "tests/serialization/travelling_exceptions.hpp"

namespace {

using namespace travelling_exceptions;
using travelling_exceptions::travel;  // not another one of this folder

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

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// The bytes of exceptions: whole, cut short, corrupt.
#include <carom/detail/blob.hpp>
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <exception>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <vector>

#include "tests/serialization/travelling_exceptions.hpp"

namespace {

using namespace travelling_exceptions;
using carom::detail::blob;
using carom::detail::decode_exception;
using carom::detail::encode_exception;
using travelling_exceptions::travel;  // not another one of this folder

TEST(ExceptionBytes, null_is_what_is_no_exception_of_cxx) {
  EXPECT_THROW(std::rethrow_exception(travel(nullptr)), carom::remote_error);
}

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
    EXPECT_NE(result, nullptr);
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

// SPDX-License-Identifier: BSL-1.0
#include "actors/outcomes.hpp"

#include <gtest/gtest.h>

#include <carom/errors.hpp>
#include <exception>

namespace {

namespace actors = carom::actors;
using carom::detail::task_ref;

task_ref chunk_of(std::uint64_t count) {
  static const carom::detail::task_type type{nullptr, "chunk", true};
  return carom::detail::make_chunk(type, nullptr, nullptr, count, true);
}

const auto some_error = std::make_exception_ptr(carom::error("of the test"));

TEST(Outcomes, fail_items_up_to_one) {
  const task_ref chunk = chunk_of(5);
  chunk->chunk()->stop_at_error = false;
  actors::fail_items(*chunk.get(), 2, some_error);
  EXPECT_EQ(chunk->chunk()->first, 3u);
  EXPECT_TRUE(actors::has_items_left(*chunk.get()));
  actors::fail_items(*chunk.get(), 9, some_error);
  EXPECT_FALSE(actors::has_items_left(*chunk.get()));
}

TEST(Outcomes, fail_items_that_have_ended_leaves_the_chunk_as_it_is) {
  const task_ref chunk = chunk_of(5);
  chunk->chunk()->first = 3;
  actors::fail_items(*chunk.get(), 2, some_error);
  EXPECT_EQ(chunk->chunk()->first, 3u);
  EXPECT_EQ(chunk->chunk()->count, 5u) << "nothing has failed that it could stop at";
  EXPECT_FALSE(chunk->chunk()->failed);
}

}  // namespace

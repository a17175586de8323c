// SPDX-License-Identifier: BSL-1.0
#include "tests/serialization/travelling_types.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>

namespace {

using carom::encoding_error;
using carom::detail::append_value;
using carom::detail::blob;
using carom::detail::encode;
using carom::detail::item_reader;
using carom::detail::item_writer;
using carom::detail::next_value;

TEST(ItemsInBulk, numbers_are_the_same_bytes_as_one_by_one) {
  std::vector<int> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), -500);
  blob bulk, single;
  item_writer{bulk}.put_all(std::span<const int>{numbers});
  item_writer writer{single};
  for (const int number : numbers) writer.put(number);
  EXPECT_TRUE(std::ranges::equal(bulk.bytes(), single.bytes()));

  std::vector<int> result(1000);
  item_reader reader{bulk.bytes()};
  reader.next_all(std::span{result});
  EXPECT_EQ(result, numbers);
  EXPECT_TRUE(reader.empty());
  EXPECT_THROW(reader.next_all(std::span{result}), encoding_error);
}

TEST(ItemsInBulk, of_any_type) {
  const std::vector<std::string> texts{"a", "", "ccc"};
  blob out;
  item_writer{out}.put_all(std::span{texts});
  std::vector<std::string> result(3);
  item_reader{out.bytes()}.next_all(std::span{result});
  EXPECT_EQ(result, texts);
}

TEST(ItemsInBulk, a_bool_is_checked) {
  const std::byte two{2};
  bool flag[1];
  item_reader reader{{&two, 1}};
  EXPECT_THROW(reader.next_all(std::span<bool>{flag}), encoding_error);
}

TEST(ItemsShared, objects_are_shared_within_an_item_and_not_between_items) {
  using pair = std::pair<std::shared_ptr<int>, std::shared_ptr<int>>;
  const auto number = std::make_shared<int>(1);
  const pair value{number, number};
  blob out;
  item_writer writer{out};
  writer.put(value);
  writer.put(value);
  item_reader reader{out.bytes()};
  const auto first = reader.next<pair>();
  const auto second = reader.next<pair>();
  EXPECT_EQ(first.first, first.second);
  EXPECT_NE(first.first, second.first);
}

TEST(ItemsShared, the_reader_keeps_no_object_alive) {
  blob out;
  item_writer writer{out};
  const auto value = std::make_shared<travelling::record>();
  writer.put(value);
  EXPECT_EQ(value.use_count(), 1);
  item_reader reader{out.bytes()};
  EXPECT_EQ(reader.next<std::shared_ptr<travelling::record>>().use_count(), 1);
}

struct throws_when_negative {
  int value = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value;
    if (value < 0) throw std::invalid_argument("negative");
  }
};

TEST(ItemsErrors, an_item_that_fails_leaves_those_before_it) {
  blob out;
  item_writer writer{out};
  writer.put(throws_when_negative{1});
  EXPECT_THROW(writer.put(throws_when_negative{-1}), encoding_error);
  writer.put(throws_when_negative{2});
  item_reader reader{out.bytes()};
  EXPECT_EQ(reader.next<throws_when_negative>().value, 1);
  EXPECT_EQ(reader.next<throws_when_negative>().value, 2);
  EXPECT_TRUE(reader.empty());
}

TEST(ItemsInFrames, one_that_cannot_be_packed_leaves_no_trace) {
  blob out;
  append_value(out, throws_when_negative{1});
  EXPECT_THROW(append_value(out, throws_when_negative{-1}), encoding_error);
  append_value(out, throws_when_negative{2});
  item_reader reader{out.bytes()};
  EXPECT_EQ(next_value<throws_when_negative>(reader).value, 1);
  EXPECT_EQ(next_value<throws_when_negative>(reader).value, 2);
  EXPECT_TRUE(reader.empty());
}

/// Packs as the one above, whatever it is, and more than that.
struct packs_anything {
  int value = 0;
  bool more = false;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value;
    if (more) archive& more;
  }
};

TEST(ItemsInFrames, one_that_cannot_be_unpacked_leaves_the_others_alone) {
  blob out;
  append_value(out, packs_anything{1});
  append_value(out, packs_anything{-1});
  append_value(out, packs_anything{2, true});
  append_value(out, packs_anything{3});
  item_reader reader{out.bytes()};
  EXPECT_EQ(next_value<throws_when_negative>(reader).value, 1);
  EXPECT_THROW(next_value<throws_when_negative>(reader), encoding_error);
  EXPECT_THROW(next_value<throws_when_negative>(reader), encoding_error) << "bytes are left over";
  EXPECT_EQ(next_value<throws_when_negative>(reader).value, 3);
  EXPECT_TRUE(reader.empty());
}

TEST(ItemsInFrames, a_frame_longer_than_what_is_there_is_refused) {
  blob out;
  append_value(out, std::string("text"));
  item_reader reader{out.bytes().first(out.size() - 1)};
  EXPECT_THROW(reader.next_frame(), encoding_error);
}

TEST(ItemsInFrames, numbers_need_none) {
  blob out;
  append_value(out, 5);
  append_value(out, true);
  EXPECT_EQ(out.size(), sizeof(int) + 1);
}

}  // namespace

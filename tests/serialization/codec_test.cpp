// SPDX-License-Identifier: BSL-1.0
#include "tests/serialization/samples.hpp"
#include "tests/serialization/travelling_types.hpp"

#include <cxxabi.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace {

using carom::encoding_error;
using carom::detail::blob;
using carom::detail::decode;
using carom::detail::encode;
using carom::detail::item_reader;
using carom::detail::item_writer;

template <class T>
blob encoded(const T& value) {
  blob out;
  encode(out, value);
  return out;
}

using travelling::sample_type;

std::string readable(const sample_type& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name{
      abi::__cxa_demangle(type.type->name(), nullptr, nullptr, &status), std::free};
  return name ? name.get() : type.type->name();
}

/// Every kind of type that travels.
class Codec : public testing::TestWithParam<sample_type> {
 protected:
  static blob sample() {
    blob out;
    GetParam().encode(out);
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(AllTypes, Codec, testing::ValuesIn(travelling::sample_types()),
                         [](const auto& info) { return "type_" + std::to_string(info.index); });

TEST_P(Codec, gives_back_what_it_was_given) {
  EXPECT_TRUE(GetParam().decodes(sample().bytes())) << readable(GetParam());
}

TEST_P(Codec, refuses_bytes_cut_short_at_every_length_and_bytes_left_over) {
  blob bytes = sample();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // A copy on the heap, so that a read past its end is seen by a sanitizer.
    const std::vector<std::byte> cut(bytes.data(), bytes.data() + size);
    EXPECT_THROW(GetParam().decodes(cut), encoding_error)
        << readable(GetParam()) << ": " << size << " of " << bytes.size();
  }
  bytes.append("", 1);
  EXPECT_THROW(GetParam().decodes(bytes.bytes()), encoding_error) << readable(GetParam());
}

TEST_P(Codec, survives_any_corruption) {
  const blob good = sample();
  std::mt19937_64 random{4711};
  for (int round = 0; round < 500; ++round) {
    std::vector<std::byte> bad(good.data(), good.data() + good.size());
    for (int flips = 0; flips < 1 + round % 4; ++flips) {
      const std::size_t at = random() % bad.size();
      const std::size_t end = std::min(bad.size(), at + (round % 5 == 0 ? 8 : 1));
      std::fill(bad.begin() + at, bad.begin() + end, static_cast<std::byte>(random()));
    }
    try {
      GetParam().round_trip(bad);
    } catch (const encoding_error&) {
    }
  }
}

TEST_P(Codec, items_are_written_as_encode_writes_them) {
  blob items, messages;
  item_writer writer{items};
  for (int i = 0; i < 3; ++i) {
    GetParam().put(writer);
    GetParam().encode(messages);
  }
  EXPECT_TRUE(std::ranges::equal(items.bytes(), messages.bytes())) << readable(GetParam());
}

TEST_P(Codec, items_are_read_one_by_one_and_skipped) {
  blob items;
  item_writer writer{items};
  for (int i = 0; i < 3; ++i) GetParam().put(writer);
  item_reader reader{items.bytes()};
  EXPECT_TRUE(GetParam().next(reader));
  EXPECT_EQ(reader.position(), items.size() / 3);
  GetParam().skip(reader);
  EXPECT_FALSE(reader.empty());
  EXPECT_TRUE(GetParam().next(reader));
  EXPECT_TRUE(reader.empty());
  EXPECT_THROW(GetParam().next(reader), encoding_error);
}

TEST_P(Codec, values_that_travel_together_can_be_read_one_by_one) {
  blob values;
  for (int i = 0; i < 3; ++i) GetParam().append(values);
  item_reader reader{values.bytes()};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(GetParam().next_value(reader));
  EXPECT_TRUE(reader.empty());
  EXPECT_THROW(GetParam().next_value(reader), encoding_error);
}

TEST(CodecBytes, values_of_several_kinds_follow_each_other_in_one_message) {
  blob out;
  const travelling::record record{7, 1.5, "a record", {1, 2, 3}};
  encode(out, 1, record, std::string{"between"}, travelling::built{"house"});
  const auto [number, first, text, second] =
      decode<int, travelling::record, std::string, travelling::built>(out.bytes());
  EXPECT_EQ(number, 1);
  EXPECT_EQ(first, record);
  EXPECT_EQ(text, "between");
  EXPECT_EQ(second, travelling::built{"house"});
}

/// Asks its archive for all that Boost's archives offer beside the operators.
struct inquisitive {
  struct counter {
    int count = 0;
  };
  int met = 0;

  template <class Archive>
  void serialize(Archive& archive, unsigned version) {
    static int id = 0;
    met = ++archive.template get_helper<counter>(&id).count;
    version_told = version;
    library_told = archive.get_library_version();
    flags_told = archive.get_flags();
    archive.template register_type<inquisitive>();
    int passed = met;
    archive& passed;
    if constexpr (Archive::is_loading::value) archive.reset_object_address(this, &passed);
    static_assert(Archive::is_loading::value != Archive::is_saving::value);
    static_assert(!std::is_copy_constructible_v<Archive> && !std::is_move_constructible_v<Archive>);
  }

  unsigned version_told = 99;
  boost::serialization::library_version_type library_told{0};
  unsigned flags_told = 0;
};

TEST(CodecBytes, an_archive_answers_what_boosts_own_answer) {
  std::vector<inquisitive> sent(3);
  blob out;
  encode(out, sent);
  const auto [received] = decode<std::vector<inquisitive>>(out.bytes());
  ASSERT_EQ(received.size(), 3u);
  for (std::size_t i = 0; i != 3; ++i) {
    // One helper for all that is read from an archive.
    EXPECT_EQ(received[i].met, static_cast<int>(i) + 1);
    EXPECT_EQ(received[i].version_told, 0u);
    EXPECT_EQ(received[i].library_told,
              boost::serialization::library_version_type{boost::archive::BOOST_ARCHIVE_VERSION()});
    EXPECT_EQ(received[i].flags_told, static_cast<unsigned>(boost::archive::no_header));
  }
}

TEST(CodecBytes, no_values_take_no_bytes) {
  blob out;
  encode(out);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(decode<>(out.bytes()), std::tuple<>{});
}

TEST(CodecBytes, arithmetic_values_are_their_bytes_also_beside_other_types) {
  blob raw, plain, archive;
  encode(raw, 1, 2.5);
  encode(plain, std::pair{1, 2.5});
  encode(archive, std::make_unique<std::pair<int, double>>(1, 2.5));
  EXPECT_EQ(raw.size(), 12U);
  EXPECT_TRUE(std::ranges::equal(raw.bytes(), plain.bytes()));
  EXPECT_TRUE(std::ranges::equal(raw.bytes(), archive.bytes().subspan(1)));
}

TEST(CodecBytes, equal_structures_have_equal_bytes_through_and_without_an_archive) {
  const travelling::record record{7, 1.5, "a record", {1, 2, 3}};
  blob parts;
  encode(parts, record.id, record.weight, record.name, record.values);
  EXPECT_TRUE(std::ranges::equal(parts.bytes(), encoded(record).bytes()));
}

TEST(CodecBytes, a_vector_of_numbers_is_its_count_and_its_bytes) {
  EXPECT_EQ(encoded(std::vector<int>(1000)).size(), 8 + 4000U);
  EXPECT_EQ(encoded(std::vector<bool>(1000)).size(), 8 + 125U);
}

TEST(CodecBytes, numbers_at_odd_addresses_are_read) {
  const blob bytes = encoded(std::vector<double>{1, 2, 3});
  std::vector<std::byte> odd(bytes.size() + 1);
  std::ranges::copy(bytes.bytes(), odd.begin() + 1);
  const auto [values] = decode<std::vector<double>>(std::span{odd}.subspan(1));
  EXPECT_EQ(values, (std::vector<double>{1, 2, 3}));
}

TEST(CodecBytes, appends_to_what_is_there) {
  blob out;
  encode(out, 1);
  encode(out, std::string{"x"});
  EXPECT_EQ((decode<int, std::string>(out.bytes())), (std::tuple{1, std::string{"x"}}));
}

struct refuses_to_save {
  int value = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value;
    throw std::logic_error("out of order");
  }
};

TEST(CodecErrors, a_throwing_serialize_is_an_encoding_error_with_its_cause_and_leaves_the_blob) {
  blob out;
  encode(out, 5);
  try {
    encode(out, std::string(1000, 'x'), refuses_to_save{});
    FAIL();
  } catch (const encoding_error& error) {
    EXPECT_NE(std::string{error.what()}.find("out of order"), std::string::npos);
    EXPECT_THROW(std::rethrow_if_nested(error), std::logic_error);
  }
  EXPECT_EQ(std::get<0>(decode<int>(out.bytes())), 5);
}

TEST(CodecErrors, a_serialize_that_throws_on_loading_is_an_encoding_error) {
  blob out;
  encode(out, std::uint32_t{70000});
  EXPECT_THROW(decode<travelling::split>(out.bytes()), encoding_error);
}

TEST(CodecErrors, a_bool_is_zero_or_one) {
  const std::byte two{2};
  EXPECT_THROW(decode<bool>({&two, 1}), encoding_error);
  EXPECT_THROW(decode<travelling::bulky>({&two, 1}), encoding_error);
}

TEST(CodecErrors, an_alternative_that_a_variant_does_not_have_is_refused) {
  const std::byte bytes[] = {std::byte{2}, std::byte{0}};
  EXPECT_THROW((decode<std::variant<char, bool>>(bytes)), encoding_error);
}

TEST(CodecErrors, a_key_that_comes_twice_is_refused) {
  EXPECT_THROW(decode<std::set<int>>(encoded(std::multiset<int>{1, 1}).bytes()), encoding_error);
}

TEST(CodecErrors, the_bits_behind_a_vector_of_bool_are_zero) {
  blob out = encoded(std::vector<bool>{true});
  *(out.data() + out.size() - 1) = std::byte{0x81};
  EXPECT_THROW(decode<std::vector<bool>>(out.bytes()), encoding_error);
}

TEST(CodecErrors, the_padding_of_elements_without_bytes_is_zero) {
  blob out = encoded(std::vector<travelling::empty>(3));
  *(out.data() + out.size() - 1) = std::byte{1};
  EXPECT_THROW(decode<std::vector<travelling::empty>>(out.bytes()), encoding_error);
}

travelling::chain chain_of(int length) {
  travelling::chain first;
  for (int i = 1; i < length; ++i)
    first = {i, std::make_unique<travelling::chain>(std::move(first))};
  return first;
}

TEST(CodecErrors, values_inside_values_stop_at_the_depth_limit_on_both_sides) {
  const blob deepest = encoded(chain_of(carom::detail::max_depth));
  EXPECT_NO_THROW(decode<travelling::chain>(deepest.bytes()));
  blob out;
  EXPECT_THROW(encode(out, chain_of(carom::detail::max_depth + 1)), encoding_error);
  for (int i = 0; i <= carom::detail::max_depth; ++i) encode(out, i, std::uint8_t{1});
  encode(out, 0, std::uint8_t{0});
  EXPECT_THROW(decode<travelling::chain>(out.bytes()), encoding_error);
}

/// Its child travels among what its constructor needs.
struct bead {
  explicit bead(std::unique_ptr<bead> one) : next(std::move(one)) {}
  std::unique_ptr<bead> next;

  template <class Archive>
  void serialize(Archive&, unsigned) {}
  template <class Archive>
  friend void save_construct_data(Archive& archive, const bead* one, unsigned) {
    archive << one->next;
  }
  template <class Archive>
  friend void load_construct_data(Archive& archive, bead* place, unsigned) {
    std::unique_ptr<bead> next;
    archive >> next;
    ::new (place) bead(std::move(next));
  }
};

TEST(CodecErrors, values_that_construct_each_other_stop_at_the_depth_limit_on_both_sides) {
  const auto links = [](int count) {
    std::unique_ptr<bead> first;
    for (int i = 0; i < count; ++i) first = std::make_unique<bead>(std::move(first));
    return first;
  };
  const blob deepest = encoded(links(carom::detail::max_depth));
  EXPECT_NO_THROW(decode<std::unique_ptr<bead>>(deepest.bytes()));
  blob out;
  EXPECT_THROW(encode(out, links(carom::detail::max_depth + 1)), encoding_error);
  const std::vector<std::byte> marks(5'000'000, std::byte{1});  // of an object, without an end
  EXPECT_THROW(decode<std::unique_ptr<bead>>(marks), encoding_error);

  std::vector<bead> elements;
  elements.emplace_back(links(carom::detail::max_depth));
  EXPECT_THROW(encode(out, elements), encoding_error);
  blob endless = encoded(std::uint64_t{1});
  endless.append(marks.data(), marks.size());
  EXPECT_THROW(decode<std::vector<bead>>(endless.bytes()), encoding_error);
}

}  // namespace

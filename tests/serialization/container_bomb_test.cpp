// SPDX-License-Identifier: BSL-1.0
#include "tests/serialization/travelling_types.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <unordered_set>
#include <vector>

namespace {

using carom::encoding_error;
using carom::detail::blob;
using carom::detail::decode;
using carom::detail::encode;

std::size_t allocated = 0;

/// Counts what a container asks for.
template <class T>
struct counting {
  using value_type = T;
  counting() = default;
  template <class U>
  explicit(false) counting(const counting<U>&) {}
  T* allocate(std::size_t count) {
    allocated += count * sizeof(T);
    return std::allocator<T>{}.allocate(count);
  }
  void deallocate(T* place, std::size_t count) { std::allocator<T>{}.deallocate(place, count); }
  bool operator==(const counting&) const { return true; }
};

/// A count, and that many bytes behind it at most.
blob bomb(std::uint64_t count, std::size_t bytes) {
  blob out;
  encode(out, count);
  out.append(std::vector<char>(bytes).data(), bytes);
  return out;
}

constexpr std::uint64_t counts[] = {1ULL << 20, 1ULL << 32,        1ULL << 60,
                                    1ULL << 61, ~std::uint64_t{0}, ~std::uint64_t{0} / 8 + 1};

template <class Container>
void expect_harmless() {
  for (const auto count : counts) {
    allocated = 0;
    EXPECT_THROW(decode<Container>(bomb(count, 100).bytes()), encoding_error) << count;
    EXPECT_LE(allocated, 1000U) << count;
  }
}

template <class T>
using vector = std::vector<T, counting<T>>;

TEST(ContainerBomb, of_numbers) { expect_harmless<vector<int>>(); }
TEST(ContainerBomb, of_bits) { expect_harmless<vector<bool>>(); }
TEST(ContainerBomb, of_characters) {
  expect_harmless<std::basic_string<char, std::char_traits<char>, counting<char>>>();
}
TEST(ContainerBomb, of_strings) { expect_harmless<vector<std::string>>(); }
TEST(ContainerBomb, of_records) { expect_harmless<vector<travelling::record>>(); }
TEST(ContainerBomb, of_elements_without_bytes) { expect_harmless<vector<travelling::empty>>(); }
TEST(ContainerBomb, of_a_deque) {
  expect_harmless<std::deque<std::string, counting<std::string>>>();
}
TEST(ContainerBomb, of_hash_buckets) {
  expect_harmless<std::unordered_set<std::string, std::hash<std::string>, std::equal_to<>,
                                     counting<std::string>>>();
}
TEST(ContainerBomb, of_a_map) {
  expect_harmless<std::map<int, int, std::less<>, counting<std::pair<const int, int>>>>();
}

TEST(ContainerBomb, a_count_that_fits_reserves_in_proportion_to_the_bytes_that_came) {
  // 100 000 elements of 4 KiB are claimed, and 100 000 bytes are there: all of them bad.
  blob bytes = bomb(100'000, 100'000);
  std::fill(bytes.data() + 8, bytes.data() + bytes.size(), std::byte{7});
  allocated = 0;
  EXPECT_THROW(decode<vector<travelling::bulky>>(bytes.bytes()), encoding_error);
  EXPECT_LE(allocated, 500'000U);
}

struct loads_as_boost_does {
  std::size_t believed = 0;

  template <class Archive>
  void save(Archive& archive, unsigned) const {
    archive << boost::serialization::collection_size_type{believed};
  }
  template <class Archive>
  void load(Archive& archive, unsigned) {
    boost::serialization::collection_size_type count;
    archive >> count;
    believed = count;
  }
  BOOST_SERIALIZATION_SPLIT_MEMBER()
};

TEST(ContainerBomb, a_loader_written_for_boost_gets_no_count_above_the_bytes_left) {
  EXPECT_THROW(decode<loads_as_boost_does>(bomb(101, 100).bytes()), encoding_error);
}

}  // namespace

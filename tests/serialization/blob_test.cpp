// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/blob.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <set>
#include <string>
#include <vector>

namespace {

using carom::detail::blob;
using carom::detail::segment_source;

/// Gives heap blocks and knows which are out.
class test_source final : public segment_source {
 public:
  ~test_source() { EXPECT_TRUE(out_.empty()) << "a segment was not released"; }
  block acquire(std::size_t bytes) override {
    if (fails) throw std::bad_alloc{};
    ++acquired;
    auto* data = new std::byte[bytes];
    out_.insert(data);
    return {data, bytes, data};
  }
  void release(void* handle) noexcept override {
    EXPECT_EQ(out_.erase(static_cast<std::byte*>(handle)), 1U);
    delete[] static_cast<std::byte*>(handle);
  }
  std::size_t out() const { return out_.size(); }
  int acquired = 0;
  bool fails = false;

 private:
  std::set<std::byte*> out_;
};

std::string text_of(const blob& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_inline(const blob& bytes) {
  const auto* object = reinterpret_cast<const std::byte*>(&bytes);
  return bytes.data() >= object && bytes.data() < object + sizeof(blob);
}

TEST(Blob, keeps_its_bytes_over_every_kind_of_growth) {
  test_source source;
  blob bytes{&source};
  std::string expected;
  for (int i = 0; expected.size() < 3 * blob::segment_threshold; ++i) {
    const std::string part(static_cast<std::size_t>(i) % 300, static_cast<char>('a' + i % 26));
    bytes.append(part.data(), part.size());
    expected += part;
    ASSERT_EQ(bytes.size(), expected.size());
  }
  EXPECT_EQ(text_of(bytes), expected);
  EXPECT_NE(bytes.segment(), nullptr);
}

TEST(Blob, is_inline_then_on_the_heap_then_in_a_segment) {
  test_source source;
  blob bytes{&source};
  bytes.resize_uninitialized(blob::inline_capacity);
  EXPECT_TRUE(is_inline(bytes));
  bytes.extend(1);
  EXPECT_FALSE(is_inline(bytes));
  bytes.resize_uninitialized(blob::segment_threshold);
  EXPECT_EQ(source.out(), 0U);
  bytes.extend(1);
  EXPECT_EQ(source.out(), 1U);
}

TEST(Blob, stays_on_the_heap_without_a_source) {
  blob bytes;
  bytes.resize_uninitialized(10 * blob::segment_threshold);
  EXPECT_EQ(bytes.segment(), nullptr);
}

TEST(Blob, takes_one_large_step_in_one_exact_allocation) {
  test_source source;
  blob bytes{&source};
  bytes.append("head", 4);
  const std::vector<char> large(10 << 20);
  bytes.append(large.data(), large.size());
  EXPECT_EQ(source.acquired, 1);
  EXPECT_EQ(bytes.capacity(), large.size() + 4);
}

TEST(Blob, many_small_steps_allocate_few_times) {
  test_source source;
  blob bytes{&source};
  for (int i = 0; i < 1 << 20; ++i) bytes.append("1234", 4);
  EXPECT_LE(source.acquired, 7);
}

TEST(Blob, reserve_makes_room_at_once) {
  test_source source;
  blob bytes{&source};
  bytes.reserve(1 << 20);
  bytes.resize_uninitialized(1 << 20);
  EXPECT_EQ(source.acquired, 1);
}

TEST(Blob, is_as_before_when_there_is_no_room) {
  test_source source;
  blob bytes{&source};
  bytes.append("as before", 9);
  source.fails = true;
  EXPECT_THROW(bytes.extend(1 << 20), std::bad_alloc);
  EXPECT_THROW(bytes.extend(~std::size_t{0}), std::bad_alloc);
  EXPECT_EQ(text_of(bytes), "as before");
}

TEST(Blob, moves_wherever_its_bytes_are) {
  test_source source;
  for (const std::size_t size : {std::size_t{10}, std::size_t{1000}, std::size_t{1} << 20}) {
    blob from{&source};
    const std::string text(size, 'x');
    from.append(text.data(), size);
    const void* segment = from.segment();
    blob to{std::move(from)};
    EXPECT_EQ(text_of(to), text);
    EXPECT_EQ(to.segment(), segment);
    EXPECT_TRUE(from.empty());
    from.append("again", 5);
    blob other{&source};
    other.resize_uninitialized(1 << 18);
    other = std::move(to);
    EXPECT_EQ(text_of(other), text);
    auto& same = other;
    other = std::move(same);
    EXPECT_EQ(text_of(other), text);
  }
  EXPECT_EQ(source.out(), 0U);
}

TEST(Blob, hands_its_segment_over) {
  test_source source;
  blob bytes{&source};
  EXPECT_EQ(bytes.detach_segment(), nullptr);
  bytes.resize_uninitialized(1 << 20);
  void* segment = bytes.detach_segment();
  EXPECT_NE(segment, nullptr);
  EXPECT_TRUE(bytes.empty());
  bytes.append("goes on", 7);
  EXPECT_EQ(text_of(bytes), "goes on");
  EXPECT_EQ(source.out(), 1U);
  source.release(segment);
}

TEST(Blob, adopts_a_segment_with_what_is_in_it) {
  test_source source;
  blob bytes;
  bytes.resize_uninitialized(1000);
  const auto block = source.acquire(1 << 17);
  std::memcpy(block.data, "inside", 6);
  bytes.adopt_segment(source, block, 6);
  EXPECT_EQ(text_of(bytes), "inside");
  EXPECT_EQ(bytes.segment(), block.handle);
}

TEST(Blob, clear_keeps_the_storage_and_assign_replaces_the_bytes) {
  blob bytes;
  bytes.resize_uninitialized(1000);
  const auto capacity = bytes.capacity();
  bytes.clear();
  EXPECT_TRUE(bytes.empty());
  EXPECT_EQ(bytes.capacity(), capacity);
  bytes.assign(std::as_bytes(std::span{"new", 3}));
  EXPECT_EQ(text_of(bytes), "new");
  bytes.resize_uninitialized(1);
  EXPECT_EQ(text_of(bytes), "n");
}

}  // namespace

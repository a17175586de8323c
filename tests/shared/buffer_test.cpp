// SPDX-License-Identifier: BSL-1.0
// shared_buffer: bytes that travel by their descriptor.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <carom/errors.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/shared_buffer.hpp>
#include <carom/simple_queue.hpp>
#include <cstring>
#include <numeric>
#include <span>
#include <thread>
#include <vector>

#include "tests/shared/handles.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

using namespace carom::test;
using carom::shared_buffer;

TEST_F(Parity, Shared_buffer_is_written_in_place) {
  shared_buffer buffer(10'000);
  EXPECT_EQ(buffer.size(), 10'000u);
  EXPECT_EQ(buffer.bytes()[9'999], std::byte{0});
  shared_buffer there = sent(buffer);
  there.bytes()[9'999] = std::byte{7};
  EXPECT_EQ(buffer.bytes()[9'999], std::byte{7}) << "the same memory";
}

TEST_F(Parity, Shared_buffer_from_bytes) {
  std::vector<int> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 0);
  const shared_buffer buffer(std::as_bytes(std::span(numbers)));
  const auto seen = buffer.as<int>();
  static_assert(std::is_same_v<decltype(seen), const std::span<const int>>);
  EXPECT_THAT(seen, testing::ElementsAreArray(numbers));
}

TEST_F(Parity, Shared_buffer_between_processes) {
  shared_buffer buffer(1 << 20);
  forked child([&] {
    std::ranges::fill(buffer.as<int>(), 3);
    return true;
  });
  ASSERT_TRUE(child.succeeded());
  const auto all = std::as_const(buffer).as<int>();
  EXPECT_EQ(std::accumulate(all.begin(), all.end(), 0), 3 << 18);
}

TEST_F(Parity, Shared_buffer_in_a_queue) {
  carom::simple_queue<shared_buffer> queue;
  forked child([&] {
    shared_buffer buffer = queue.get();
    buffer.bytes()[5] = std::byte{1};
    queue.put(buffer);
    return true;
  });
  shared_buffer buffer(std::size_t{1} << 30);
  queue.put(buffer);
  ASSERT_TRUE(child.succeeded());
  EXPECT_EQ(queue.get().bytes()[5], std::byte{1});
  EXPECT_EQ(buffer.bytes()[5], std::byte{1});
}

TEST_F(Parity, Shared_buffer_is_mapped_when_it_is_looked_at) {
  shared_buffer buffer(std::size_t{1} << 30);
  const std::size_t before = shared_mappings(::getpid());
  shared_buffer there = sent(buffer);
  EXPECT_EQ(shared_mappings(::getpid()), before);
  there.data();
  EXPECT_EQ(shared_mappings(::getpid()), before + 1);
  there.data();
  EXPECT_EQ(shared_mappings(::getpid()), before + 1);
}

TEST_F(Parity, Shared_buffer_is_mapped_once_by_many_threads) {
  shared_buffer buffer(4096);
  const std::size_t before = shared_mappings(::getpid());
  std::vector<std::thread> threads;
  std::vector<std::byte*> seen(8);
  for (std::size_t t = 0; t < seen.size(); ++t)
    threads.emplace_back([&, t] { seen[t] = buffer.data(); });
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(seen, testing::Each(buffer.data()));
  EXPECT_EQ(shared_mappings(::getpid()), before + 1);
}

TEST_F(Parity, Shared_buffer_copy) {
  shared_buffer buffer(100);
  buffer.bytes()[3] = std::byte{4};
  shared_buffer other = carom::copy(buffer);
  buffer.bytes()[3] = std::byte{5};
  EXPECT_EQ(other.bytes()[3], std::byte{4});
}

TEST_F(Parity, Shared_buffer_of_nothing) {
  EXPECT_TRUE(shared_buffer().empty());
  EXPECT_TRUE(shared_buffer(0).bytes().empty());
  EXPECT_TRUE(sent(shared_buffer()).empty());
  EXPECT_TRUE(carom::copy(shared_buffer()).empty());
}

TEST_F(Parity, Shared_buffer_that_is_no_whole_number_of_elements) {
  shared_buffer buffer(10);
  EXPECT_THROW(buffer.as<int>(), std::invalid_argument);
  EXPECT_EQ(buffer.as<short>().size(), 5u);
  EXPECT_THROW(shared_buffer(~std::size_t{0}), std::invalid_argument);
}

TEST_F(Parity, Shared_buffer_cannot_shrink_under_its_reader) {
  shared_buffer buffer(8192);
  carom::detail::blob packed;
  carom::detail::encode(packed, buffer);
  EXPECT_NE(::ftruncate(packed.find_descriptors()->entries()[0].fd, 0), 0);
  // What is not sealed is refused.
  carom::file_descriptor loose(::memfd_create("loose", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(loose.get(), 8192), 0);
  EXPECT_THROW((sent_as<shared_buffer>(loose)), carom::encoding_error);
}

}  // namespace

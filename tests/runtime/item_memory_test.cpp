// SPDX-License-Identifier: BSL-1.0
#include "runtime/item_memory.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <carom/errors.hpp>
#include <cstring>
#include <filesystem>
#include <string>

#include "runtime/item_rights.hpp"

namespace carom::runtime {
namespace {

constexpr std::size_t limit = 64 * 1024;
constexpr std::size_t size = 4 * limit;
constexpr int needed_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

/// Opens this process's memory of that name anew.
unique_fd open_memory(const std::string& name) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (!gone && target.find(name) != std::string::npos)
      return unique_fd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
  }
  return {};
}

detail::blob packed_item(item_memory& memory) {
  detail::blob packed(&memory);
  std::memset(packed.extend(size), 'x', size);
  return packed;
}

void expect_item(unique_fd fd) {
  EXPECT_EQ(::fcntl(fd.get(), F_GET_SEALS) & needed_seals, needed_seals);
  detail::blob received;
  item_memory::attach(received, std::move(fd), size);
  EXPECT_EQ(received.size(), size);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(received.data()), received.size()),
            std::string(size, 'x'));
}

TEST(ItemMemory, LeavesSealedAndWithoutACopy) {
  item_memory memory(limit);
  detail::blob packed = packed_item(memory);
  const unique_fd same = open_memory("carom-item");
  unique_fd sent = memory.detach(packed);
  EXPECT_TRUE(packed.empty());
  struct stat before {
  }, after{};
  ::fstat(same.get(), &before);
  ::fstat(sent.get(), &after);
  EXPECT_EQ(before.st_ino, after.st_ino);
  expect_item(std::move(sent));
}

// As a process may that was forked in the moment of the mapping.
TEST(ItemMemory, IsCopiedWhereSomebodyElseCouldStillWrite) {
  item_memory memory(limit);
  detail::blob packed = packed_item(memory);
  const unique_fd same = open_memory("carom-item");
  void* const others = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, same.get(), 0);
  ASSERT_NE(others, MAP_FAILED);
  unique_fd sent = memory.detach(packed);
  std::memset(others, 'y', size);
  expect_item(std::move(sent));
  ::munmap(others, size);
}

TEST(ItemMemory, SmallItemsAreCopiedWhenTheyMustTravelAsMemory) {
  item_memory memory(2 * size);
  detail::blob packed = packed_item(memory);
  expect_item(memory.detach(packed));
}

TEST(ItemMemory, WhatCouldChangeIsRefused) {
  detail::blob received;
  const unique_fd open_to_all(::memfd_create("carom-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(open_to_all.get(), size), 0);
  const auto copy = [&] { return unique_fd(::fcntl(open_to_all.get(), F_DUPFD_CLOEXEC, 3)); };
  EXPECT_THROW(item_memory::attach(received, copy(), size), encoding_error);
  ::fcntl(open_to_all.get(), F_ADD_SEALS, needed_seals);
  EXPECT_THROW(item_memory::attach(received, copy(), size + 1), encoding_error);
  EXPECT_THROW(item_memory::attach(received, {}, size), encoding_error);
  item_memory::attach(received, copy(), size);
  EXPECT_EQ(received.size(), size);
}

// Whoever has an end may shut the pair down: an end of the stream is no message to be dropped.
TEST(ItemRights, PairThatIsShutDownHasNothing) {
  auto rights = item_rights::make();
  const unique_fd body(::memfd_create("carom-test", MFD_CLOEXEC));
  EXPECT_EQ(rights.send(1, body.get(), nullptr), item_rights::send_result::done);
  EXPECT_TRUE(rights.peek(1));
  ::shutdown(rights.in(), SHUT_RDWR);
  rights.drop_below(2);
  EXPECT_FALSE(rights.drop());
  rights.drop_below(3);
  EXPECT_FALSE(rights.peek(3));
  EXPECT_THROW(rights.send(4, body.get(), nullptr), process_error);
}

}  // namespace
}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
// Connections and descriptors inside messages.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <carom/connection.hpp>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/connection/child.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

using carom::connection;
using carom::encoding_error;
using carom::file_descriptor;
using carom::process_error;
using carom::test::child;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::uint64_t inode_of(int fd) {
  struct stat status {};
  ::fstat(fd, &status);
  return status.st_ino;
}

file_descriptor make_file() { return file_descriptor(::memfd_create("made", MFD_CLOEXEC)); }

TEST_F(Parity, Connection_is_a_message) {
  auto [mine, its] = carom::pipe();
  child other([&, &mine = mine, &its = its] {
    mine.close();
    its.recv<connection>().send("through the given one");
    its.recv<int>();
  });
  its.close();
  auto [a, b] = carom::pipe();
  mine.send(std::move(b));
  EXPECT_TRUE(b.closed());  // NOLINT(bugprone-use-after-move): is what is tested
  EXPECT_EQ(a.recv<std::string>(), "through the given one");
  EXPECT_THROW(a.recv<int>(), process_error) << "nobody else has that end";
  mine.send(0);
  EXPECT_EQ(other.join(), 0);
}

TEST_F(Parity, Connection_that_is_not_moved_from_stays_open_here) {
  auto [a, b] = carom::pipe();
  auto [c, d] = carom::pipe();
  a.send(d);
  auto copy = b.recv<connection>();
  EXPECT_NE(copy.fileno(), d.fileno());
  EXPECT_TRUE(::fcntl(copy.fileno(), F_GETFD) & FD_CLOEXEC);
  copy.close();
  d.send(1);
  EXPECT_EQ(c.recv<int>(), 1);
  auto second = d.duplicate();
  d.close();
  second.send(2);
  EXPECT_EQ(c.recv<int>(), 2);
}

TEST_F(Parity, Connection_keeps_its_properties_when_it_travels) {
  auto [a, b] = carom::pipe();
  auto [reader, writer] = carom::pipe(false, true, false);
  reader.set_max_message(77);
  a.send(std::move(reader));
  a.send(std::move(writer));
  a.send(connection());
  auto there = b.recv<connection>();
  EXPECT_TRUE(there.readable());
  EXPECT_FALSE(there.writable());
  EXPECT_FALSE(there.blocking());
  EXPECT_EQ(there.max_message(), 77u);
  auto writes = b.recv<connection>();
  EXPECT_FALSE(writes.readable());
  writes.send(5);
  EXPECT_EQ(there.recv<int>(), 5);
  EXPECT_TRUE(b.recv<connection>().closed()) << "a closed one travels, too";
}

TEST_F(Parity, Connection_in_the_middle_of_a_message_does_not_travel) {
  auto [a, b] = carom::pipe();
  auto [c, d] = carom::pipe();
  const std::vector<std::byte> large(4 << 20);
  const std::size_t offset = *c.send_offset(large, 0);
  EXPECT_THROW(a.send(c), encoding_error);
  EXPECT_THROW(c.duplicate(), process_error);
  EXPECT_THROW(d.recv_bytes(connection::no_limit, 0ms), carom::timeout_error);
  EXPECT_THROW(a.send(d), encoding_error) << "its beginning is here";
  EXPECT_FALSE(b.poll());
  EXPECT_GT(offset, 0u);
}

TEST_F(Parity, Connection_carries_descriptors_in_values) {
  auto [a, b] = carom::pipe();
  std::vector<file_descriptor> files;
  for (int i = 0; i < 700; ++i) files.push_back(make_file());  // more than one system call takes
  std::thread sender([&, &a = a] {
    a.send(files);
    a.send(std::pair(std::string(1 << 20, 'x'), file_descriptor::duplicate(files[3].get())));
  });
  const auto arrived = b.recv<std::vector<file_descriptor>>();
  ASSERT_EQ(arrived.size(), 700u);
  for (std::size_t i = 0; i < 700; ++i)
    ASSERT_EQ(inode_of(arrived[i].get()), inode_of(files[i].get()));
  const auto second = b.recv<std::pair<std::string, file_descriptor>>();
  EXPECT_EQ(inode_of(second.second.get()), inode_of(files[3].get()));
  sender.join();
}

TEST_F(Parity, Connection_descriptors_of_unwanted_messages_are_closed) {
  auto [a, b] = carom::pipe();
  const auto before = carom::test::open_descriptors(::getpid());
  a.send(make_file());
  EXPECT_THROW(b.recv<int>(), encoding_error);
  a.send(make_file());
  EXPECT_THROW(b.recv_bytes(1), process_error);
  a.send(make_file());
  b.recv_bytes();
  a.send(make_file());
  std::vector<std::byte> buffer(100);
  b.recv_bytes_into(buffer);
  a.send(1);
  EXPECT_EQ(b.recv<int>(), 1);
  EXPECT_EQ(carom::test::open_descriptors(::getpid()), before);
  a.send(make_file());  // unread when both ends close
}

TEST_F(Parity, Connection_receiver_without_free_descriptors_loses_that_message_only) {
  auto [mine, its] = carom::pipe();
  std::vector<file_descriptor> files;
  for (int i = 0; i < 300; ++i) files.push_back(make_file());
  child other([&, &mine = mine, &its = its] {
    files.clear();
    mine.close();
    const rlimit few{60, 60};
    ::setrlimit(RLIMIT_NOFILE, &few);
    try {
      its.recv<std::vector<file_descriptor>>();
      throw std::runtime_error("they cannot have come");
    } catch (const encoding_error& error) {
      if (!std::strstr(error.what(), "RLIMIT_NOFILE")) throw;
    }
    its.send(inode_of(its.recv<file_descriptor>().get()));
  });
  its.close();
  mine.send(files);
  mine.send(files[5]);
  EXPECT_EQ(mine.recv<std::uint64_t>(), inode_of(files[5].get()));
  EXPECT_EQ(other.join(), 0);
}

TEST_F(Parity, Connection_descriptor_that_is_none_is_refused_at_the_call) {
  auto [a, b] = carom::pipe();
  file_descriptor gone(::dup(0));
  ::close(gone.get());
  EXPECT_THROW(a.send(gone), encoding_error);
  gone.release();
  EXPECT_FALSE(b.poll()) << "nothing was sent";
  a.send(1);
  EXPECT_EQ(b.recv<int>(), 1);
}

TEST_F(Parity, Connection_descriptors_that_nobody_announced_are_closed) {
  auto [a, b] = carom::pipe();
  const auto before = carom::test::open_descriptors(::getpid());
  std::vector<std::byte> raw(24);
  std::memcpy(raw.data(), "cmsg", 4);
  for (int round = 0; round < 10; ++round) {
    iovec part{raw.data(), raw.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 3)] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * 3);
    const int fds[] = {0, 1, 2};
    std::memcpy(CMSG_DATA(rights), fds, sizeof fds);
    ASSERT_EQ(::sendmsg(a.fileno(), &message, 0), 24);
    EXPECT_TRUE(b.recv_bytes().empty());
  }
  EXPECT_EQ(carom::test::open_descriptors(::getpid()), before);
}

TEST_F(Parity, Connection_tickets_without_descriptors_are_an_error) {
  auto [a, b] = carom::pipe();
  // A typed message that says it has a descriptor, and has none.
  std::vector<std::byte> raw(24 + 8 + 9);
  std::memcpy(raw.data(), "cmsg\1\0\1\0", 8);
  const std::uint64_t length = 9, mark = carom::detail::type_mark_of<file_descriptor>(), ticket = 5;
  std::memcpy(&raw[8], &length, 8);
  std::memcpy(&raw[16], &mark, 8);
  std::memcpy(&raw[24], &ticket, 8);
  raw[32] = std::byte{1};
  std::memcpy(&raw[33], &ticket, 8);
  ASSERT_EQ(::send(a.fileno(), raw.data(), raw.size(), 0), static_cast<ssize_t>(raw.size()));
  EXPECT_THROW(b.recv<file_descriptor>(), encoding_error);
  a.send(1);
  EXPECT_EQ(b.recv<int>(), 1);
}

TEST_F(Parity, Connection_that_was_no_socket_is_refused_by_the_receiver) {
  auto [a, b] = carom::pipe();
  auto [c, d] = carom::pipe();
  ASSERT_GE(::dup3(make_file().get(), c.fileno(), O_CLOEXEC), 0);  // somebody's bug
  const file_descriptor somebodys(c.fileno());  // which the connection leaves open
  a.send(c);
  EXPECT_THAT([&b = b] { b.recv<connection>(); },
              ThrowsMessage<encoding_error>(HasSubstr("no stream socket")));
}

TEST_F(Parity, Connection_cycles_leave_nothing) {
  const int cycles = std::getenv("CAROM_FULL") ? 10'000 : 2'000;
  for (int i = 0; i < cycles; ++i) {
    auto [a, b] = carom::pipe(i % 2 == 0);
    b.send(std::string("x"));
    b.send(make_file());
    ASSERT_EQ(a.recv<std::string>(), "x");
  }
}

}  // namespace

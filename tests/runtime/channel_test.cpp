// SPDX-License-Identifier: BSL-1.0
#include "runtime/channel.hpp"
#include "tests/runtime/bytes_of.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

namespace carom::runtime {
namespace {

std::string text_of(const message& received) {
  return {reinterpret_cast<const char*>(received.bytes.data()), received.bytes.size()};
}

int count_fds() {
  int count = 0;
  DIR* const directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

class Channel : public ::testing::Test {
 protected:
  Channel() : open_before_(count_fds()) { std::tie(a_, b_) = channel::make_pair(); }
  ~Channel() override {
    a_ = channel{};
    b_ = channel{};
    received_ = {};
    EXPECT_EQ(count_fds(), open_before_);
  }

  int open_before_;
  channel a_, b_;
  message received_;
};

TEST_F(Channel, DeliversWholeMessagesInOrder) {
  ASSERT_FALSE(a_.send(bytes_of("first")));
  ASSERT_FALSE(a_.send(bytes_of("second")));
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(text_of(received_), "first");
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(text_of(received_), "second");
}

TEST_F(Channel, IsAboveStandardDescriptorsAndCloseOnExec) {
  for (const int fd : {a_.fd(), b_.fd()}) {
    EXPECT_GT(fd, STDERR_FILENO);
    EXPECT_TRUE(::fcntl(fd, F_GETFD) & FD_CLOEXEC);
  }
}

TEST_F(Channel, PassesDescriptorsCloseOnExec) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const unique_fd read_end{ends[0]}, write_end{ends[1]};
  const std::array fds{write_end.get(), write_end.get()};
  ASSERT_FALSE(a_.send(bytes_of("x"), fds));
  ASSERT_FALSE(b_.receive(received_));
  ASSERT_EQ(received_.fds.size(), 2u);
  EXPECT_TRUE(::fcntl(received_.fds[1].get(), F_GETFD) & FD_CLOEXEC);
  ASSERT_EQ(::write(received_.fds[1].get(), "!", 1), 1);
  char got = 0;
  ASSERT_EQ(::read(read_end.get(), &got, 1), 1);
  EXPECT_EQ(got, '!');
}

TEST_F(Channel, TakesSixteenDescriptorsAndNoMore) {
  std::array<int, channel::max_fds + 1> fds;
  fds.fill(a_.fd());
  ASSERT_FALSE(a_.send(bytes_of("x"), std::span{fds}.first(channel::max_fds)));
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(received_.fds.size(), channel::max_fds);
  EXPECT_EQ(a_.send(bytes_of("x"), fds), std::errc::message_size);
}

TEST_F(Channel, TellsTheEndAfterTheLastMessage) {
  ASSERT_FALSE(a_.send(bytes_of("last")));
  a_ = channel{};
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(text_of(received_), "last");
  EXPECT_EQ(b_.receive(received_), channel_errc::end_of_file);
  EXPECT_EQ(b_.receive(received_, true), channel_errc::end_of_file);
}

TEST_F(Channel, UnreadMessagesOfTheOtherSideDoNotHideTheEnd) {
  ASSERT_FALSE(b_.send(bytes_of("never read")));
  a_ = channel{};
  EXPECT_EQ(b_.receive(received_), channel_errc::end_of_file);
  EXPECT_EQ(b_.receive(received_), channel_errc::end_of_file);
}

TEST_F(Channel, LastWordsOfAPeerThatLeftMessagesUnreadAreHeard) {
  const int fd = STDERR_FILENO;
  ASSERT_FALSE(a_.send(bytes_of("first"), std::span(&fd, 1)));
  ASSERT_FALSE(a_.send(bytes_of("last")));
  ASSERT_FALSE(b_.send(bytes_of("unread")));
  a_ = channel{};
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(text_of(received_), "first");
  EXPECT_EQ(received_.fds.size(), 1u);
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(text_of(received_), "last");
  EXPECT_EQ(b_.receive(received_), channel_errc::end_of_file);
  EXPECT_EQ(b_.receive(received_), channel_errc::end_of_file);
}

TEST_F(Channel, LastWordsAreHeardHoweverCloselyTheEndFollows) {
  for (int i = 0; i != 20'000; ++i) {
    auto [here, there] = channel::make_pair();
    std::thread peer([&there] {
      (void)there.send(bytes_of("last"));
      there = channel{};
    });
    std::error_code error;
    do error = here.receive(received_);
    while (error == std::errc::operation_would_block);
    peer.join();
    ASSERT_FALSE(error) << i << ": " << error.message();
    ASSERT_EQ(here.receive(received_), channel_errc::end_of_file);
  }
}

TEST_F(Channel, LastWordsAreHeardWhereSendingHasToldTheEnd) {
  ASSERT_FALSE(a_.send(bytes_of("last")));
  ASSERT_FALSE(b_.send(bytes_of("unread")));
  a_ = channel{};
  EXPECT_EQ(b_.send(bytes_of("late")), channel_errc::end_of_file);
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(text_of(received_), "last");
  EXPECT_EQ(b_.receive(received_), channel_errc::end_of_file);
}

TEST_F(Channel, SendingToTheDeadIsAnErrorAndNoSignal) {
  a_ = channel{};
  EXPECT_EQ(b_.send(bytes_of("x")), channel_errc::end_of_file);
}

TEST_F(Channel, WouldBlockWhenEmptyAndWhenFull) {
  EXPECT_EQ(b_.receive(received_), std::errc::operation_would_block);
  const std::string large(channel::max_bytes, 'x');
  std::error_code error;
  int sent = 0;
  while (!(error = a_.send(bytes_of(large)))) ++sent;
  EXPECT_EQ(error, std::errc::operation_would_block);
  for (int i = 0; i != sent; ++i) {
    ASSERT_FALSE(b_.receive(received_));
    EXPECT_EQ(received_.bytes.size(), channel::max_bytes);
  }
  EXPECT_EQ(b_.receive(received_), std::errc::operation_would_block);
}

TEST_F(Channel, RefusesWhatIsTooLongOrEmpty) {
  const std::string large(channel::max_bytes + 1, 'x');
  EXPECT_EQ(a_.send(bytes_of(large)), std::errc::message_size);
  EXPECT_EQ(a_.send({}), std::errc::invalid_argument);
}

TEST_F(Channel, OversizedMessageIsDroppedWithItsDescriptors) {
  const std::string large(channel::max_bytes + 1, 'x');
  iovec part{const_cast<char*>(large.data()), large.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* const rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int passed = a_.fd();
  std::memcpy(CMSG_DATA(rights), &passed, sizeof passed);
  ASSERT_EQ(::sendmsg(a_.fd(), &header, 0), static_cast<ssize_t>(large.size()));
  ASSERT_FALSE(a_.send(bytes_of("next")));
  EXPECT_EQ(b_.receive(received_), channel_errc::oversized);
  EXPECT_TRUE(received_.bytes.empty());
  EXPECT_TRUE(received_.fds.empty());
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(text_of(received_), "next");
}

TEST_F(Channel, DescriptorsLostForWantOfRoomAreAnError) {
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const std::array fds{a_.fd(), a_.fd(), a_.fd()};
  ASSERT_FALSE(a_.send(bytes_of("x"), fds));
  ASSERT_FALSE(a_.send(bytes_of("next")));
  const unique_fd probe{::dup(a_.fd())};
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(probe.get()) + 2;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const std::error_code error = b_.receive(received_);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(error, channel_errc::descriptors_lost);
  EXPECT_EQ(text_of(received_), "x");
  EXPECT_TRUE(received_.fds.empty());
  ASSERT_FALSE(b_.receive(received_));
  EXPECT_EQ(text_of(received_), "next");
}

TEST_F(Channel, ErrorsHaveNames) {
  for (const auto code :
       {channel_errc::end_of_file, channel_errc::descriptors_lost, channel_errc::oversized})
    EXPECT_FALSE(std::error_code(code).message().empty());
}

}  // namespace
}  // namespace carom::runtime

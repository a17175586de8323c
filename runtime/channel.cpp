// SPDX-License-Identifier: BSL-1.0
#include "runtime/channel.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <time.h>

#include <carom/detail/start_path.hpp>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "runtime/above_stdio.hpp"

namespace carom::runtime {

namespace {

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "carom.channel"; }
  std::string message(int code) const override {
    switch (static_cast<channel_errc>(code)) {
      case channel_errc::end_of_file: return "the other end of the channel is gone";
      case channel_errc::descriptors_lost:
        return "descriptors of a message were lost: this process has too many open";
      case channel_errc::oversized: return "a message longer than the limit was dropped";
    }
    return "unknown channel error";
  }
};

// Room for one descriptor more than is allowed, so that the kernel never has a reason to say
// MSG_CTRUNC but a full descriptor table.
constexpr std::size_t control_bytes = CMSG_SPACE(sizeof(int) * 253);

std::error_code from_errno(int error) {
  if (error == EPIPE || error == ECONNRESET) return channel_errc::end_of_file;
  // EAGAIN and EWOULDBLOCK are the same number here.
  return {error, std::system_category()};
}

/// Not std::error_code's own, which a new process would have to go to the C++ library for.
std::error_code success() noexcept { return {0, channel_category()}; }

/// A call on the socket. That the peer has died with messages unread is an error of the next call
/// alone, and comes before what it had sent: unix_release_sock of the kernel.
template <class F>
ssize_t retried(const F& call) {
  ssize_t result;
  bool reset = false;
  do result = call();
  while (result < 0 && (errno == EINTR || (errno == ECONNRESET && !std::exchange(reset, true))));
  return result;
}

/// False where one is lost, because no number above the standard descriptors is free.
CAROM_START_PATH bool take_descriptors(msghdr& header, std::vector<unique_fd>& into) {
  bool all = true;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i != count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      into.push_back(try_above_stdio(unique_fd(fd)));
      if (!into.back()) all = false;
    }
  }
  return all;
}

}  // namespace

CAROM_START_PATH const std::error_category& channel_category() noexcept {
  // Never destroyed: at the end of each new process that would be more to do than anything else.
  static const auto* const instance = new category;
  return *instance;
}

std::error_code make_error_code(channel_errc code) noexcept {
  return {static_cast<int>(code), channel_category()};
}

bool is_shortage(const std::error_code& error) noexcept {
  return error == std::errc::no_buffer_space || error == std::errc::not_enough_memory ||
         error == std::error_code(ETOOMANYREFS, std::system_category());
}

std::error_code send_patiently(channel& to, std::span<const std::byte> bytes,
                               std::span<const int> fds, std::chrono::milliseconds patience,
                               bool wait) {
  const auto until = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const std::error_code error = to.send(bytes, fds, wait);
    if (!is_shortage(error) || std::chrono::steady_clock::now() >= until) return error;
    // There is no event to wait for.
    const timespec soon{0, 1'000'000};
    ::nanosleep(&soon, nullptr);
  }
}

std::pair<channel, channel> channel::make_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::system_category(), "socketpair");
  unique_fd first{ends[0]};
  unique_fd second{ends[1]};
  return {channel{above_stdio(std::move(first))}, channel{above_stdio(std::move(second))}};
}

CAROM_START_PATH std::error_code channel::send(std::span<const std::byte> bytes,
                                               std::span<const int> fds, bool wait) noexcept {
  if (bytes.empty()) return std::make_error_code(std::errc::invalid_argument);
  if (bytes.size() > max_bytes || fds.size() > max_fds)
    return std::make_error_code(std::errc::message_size);
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int) * max_fds)];
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    std::memset(control, 0, header.msg_controllen);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  const int flags = MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT);
  const ssize_t sent = retried([&] { return ::sendmsg(fd_.get(), &header, flags); });
  return sent < 0 ? from_errno(errno) : success();
}

CAROM_START_PATH std::error_code channel::receive(message& into, bool wait) {
  into.bytes.clear();
  into.fds.clear();
  const int flags = MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT);
  // Its length first: room for the longest on the stack would cost a new process pages of its own.
  // The kernel looks for a message, and then whether the peer has shut down: one that sends and
  // goes in between seems to have said nothing. Behind its end nothing comes, so a second look is
  // certain.
  ssize_t length = 0;
  for (int look = 0; look != 2 && length == 0; ++look)
    length = retried([&] {
      return ::recv(fd_.get(), nullptr, 0, (flags & MSG_DONTWAIT) | MSG_PEEK | MSG_TRUNC);
    });
  if (length < 0) return from_errno(errno);
  const bool oversized = static_cast<std::size_t>(length) > max_bytes;
  if (!oversized) into.bytes.resize(static_cast<std::size_t>(length));
  iovec part{into.bytes.data(), into.bytes.size()};
  alignas(cmsghdr) std::byte control[control_bytes];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  const ssize_t received = retried([&] {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    return ::recvmsg(fd_.get(), &header, flags);
  });
  if (received < 0) {
    into.bytes.clear();
    return from_errno(errno);
  }
  const bool taken = take_descriptors(header, into.fds);
  if (oversized || received == 0) {
    into.fds.clear();
    return oversized ? channel_errc::oversized : channel_errc::end_of_file;
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0 || !taken || into.fds.size() > max_fds) {
    into.fds.clear();
    return channel_errc::descriptors_lost;
  }
  return success();
}

}  // namespace carom::runtime

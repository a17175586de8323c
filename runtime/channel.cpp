// SPDX-License-Identifier: BSL-1.0
#include "runtime/channel.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

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

/// False where one is lost, because no number above the standard descriptors is free.
bool take_descriptors(msghdr& header, std::vector<unique_fd>& into) {
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

const std::error_category& channel_category() noexcept {
  static const category instance;
  return instance;
}

std::error_code make_error_code(channel_errc code) noexcept {
  return {static_cast<int>(code), channel_category()};
}

std::pair<channel, channel> channel::make_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::system_category(), "socketpair");
  unique_fd first{ends[0]};
  unique_fd second{ends[1]};
  return {channel{above_stdio(std::move(first))}, channel{above_stdio(std::move(second))}};
}

std::error_code channel::send(std::span<const std::byte> bytes, std::span<const int> fds,
                              bool wait) noexcept {
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
  ssize_t sent;
  do sent = ::sendmsg(fd_.get(), &header, flags);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? from_errno(errno) : std::error_code{};
}

std::error_code channel::receive(message& into, bool wait) {
  into.bytes.clear();
  into.fds.clear();
  std::byte buffer[max_bytes];
  alignas(cmsghdr) std::byte control[control_bytes];
  iovec part{buffer, sizeof buffer};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  ssize_t received;
  do {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    received = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  } while (received < 0 && errno == EINTR);
  if (received < 0) return from_errno(errno);
  const bool taken = take_descriptors(header, into.fds);
  if ((header.msg_flags & MSG_TRUNC) != 0) {
    into.fds.clear();
    return channel_errc::oversized;
  }
  if (received == 0) {
    into.fds.clear();
    return channel_errc::end_of_file;
  }
  into.bytes.assign(buffer, buffer + received);
  if ((header.msg_flags & MSG_CTRUNC) != 0 || !taken) {
    into.fds.clear();
    return channel_errc::descriptors_lost;
  }
  if (into.fds.size() > max_fds) {
    into.fds.clear();
    return channel_errc::descriptors_lost;
  }
  return {};
}

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include "runtime/item_rights.hpp"

#include <sys/socket.h>

#include <array>
#include <carom/errors.hpp>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

namespace carom::runtime {
namespace {

/// A message: this, then a ticket for each descriptor behind the body.
struct message_head {
  std::uint64_t serial;
  std::uint32_t others;
  std::uint32_t has_body;
};

constexpr std::size_t most_fds = item_rights::most + 1;
using tickets = std::array<std::uint64_t, item_rights::most>;
// The kernel takes 253 at most; room for all of them, so that only a full table truncates.
constexpr std::size_t control_bytes = CMSG_SPACE(sizeof(int) * 253);

void expect_socket(const unique_fd& fd) {
  int domain = 0, type = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain != AF_UNIX ||
      ::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET)
    throw encoding_error("a queue's descriptor is not the socket that it should be");
}

void take_fds(msghdr& header, std::vector<unique_fd>& into) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i != count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      into.push_back(out_of_the_way(unique_fd(fd)));
    }
  }
}

}  // namespace

item_rights item_rights::make() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::generic_category(), "a queue's socket pair");
  unique_fd in(ends[0]), out(ends[1]);
  mark_as_handle(in);
  mark_as_handle(out);
  return {std::move(in), std::move(out)};
}

item_rights::item_rights(unique_fd in, unique_fd out) {
  expect_socket(in);
  expect_socket(out);
  in_ = handle_fd(out_of_the_way(std::move(in)));
  out_ = handle_fd(out_of_the_way(std::move(out)));
}

item_rights::send_result item_rights::send(std::uint64_t serial, int body,
                                           const detail::descriptor_list* others) {
  message_head head{serial, others ? static_cast<std::uint32_t>(others->size()) : 0, body >= 0};
  tickets numbers;
  std::array<int, most_fds> fds;
  std::size_t count = 0;
  if (body >= 0) fds[count++] = body;
  for (std::size_t i = 0; i < head.others; ++i) {
    numbers[i] = others->entries()[i].ticket;
    fds[count++] = others->entries()[i].fd;
  }
  iovec parts[2] = {{&head, sizeof head}, {numbers.data(), head.others * sizeof numbers[0]}};
  alignas(cmsghdr) std::byte control[control_bytes]{};
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = 2;
  header.msg_control = control;
  header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  cmsghdr* const rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
  std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * count);
  ssize_t sent;
  do sent = ::sendmsg(in_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return send_result::done;
  // Too many descriptors on their way (RLIMIT_NOFILE counts them) also ends when some are taken.
  if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS) return send_result::full;
  throw process_error("the descriptors of an item cannot be sent: " +
                      std::generic_category().message(errno));
}

std::optional<std::uint64_t> item_rights::oldest() const {
  message_head head{};
  ssize_t got;
  // Without room for descriptors the kernel makes no duplicates.
  do got = ::recv(out_.get(), &head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return std::nullopt;  // 0: somebody has shut the pair down
  // What is no message of a queue has a number that no frame names: it is dropped.
  return got == sizeof head ? head.serial : 0;
}

std::optional<item_rights::message> item_rights::peek(std::uint64_t serial) {
  drop_below(serial);
  message_head head{};
  tickets numbers{};
  iovec parts[2] = {{&head, sizeof head}, {numbers.data(), sizeof numbers}};
  alignas(cmsghdr) std::byte control[control_bytes];
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = 2;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t got;
  do got = ::recvmsg(out_.get(), &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0) return std::nullopt;
  std::vector<unique_fd> fds;
  take_fds(header, fds);
  if ((header.msg_flags & MSG_CTRUNC) != 0)
    throw std::system_error(
        EMFILE, std::system_category(),
        "an item's descriptors cannot be received: this process has none left; close some, or "
        "raise RLIMIT_NOFILE, and get the item again");
  if (static_cast<std::size_t>(got) < sizeof head || head.serial != serial) return std::nullopt;
  message found{.serial = serial, .body = {}, .others = {}};
  const std::size_t first = head.has_body != 0;
  if (head.others > most || fds.size() != first + head.others ||
      static_cast<std::size_t>(got) != sizeof head + head.others * sizeof numbers[0])
    return found;
  if (first) found.body = std::move(fds[0]);
  for (std::size_t i = 0; i < head.others; ++i)
    found.others.adopt(numbers[i], fds[first + i].release());
  return found;
}

bool item_rights::drop() {
  std::byte any;
  ssize_t got;
  do got = ::recv(out_.get(), &any, 1, MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  return got > 0;
}

void item_rights::drop_below(std::uint64_t serial) {
  for (auto found = oldest(); found && *found < serial && drop();) found = oldest();
}

}  // namespace carom::runtime

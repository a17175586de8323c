// SPDX-License-Identifier: BSL-1.0
#include "runtime/outgoing_frame.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace carom::runtime {
namespace {

/// The kernel takes no more with one call (SCM_MAX_FD).
constexpr std::size_t group = 253;

/// The part [from, to) of the pieces, laid end to end.
class pieces {
 public:
  pieces(std::size_t from, std::size_t to) noexcept : from_(from), to_(to) {}

  void add(std::span<const std::byte> piece) noexcept {
    const std::size_t begin = std::max(from_, at_);
    const std::size_t end = std::min(to_, at_ + piece.size());
    if (begin < end)
      vectors_[count_++] = {const_cast<std::byte*>(piece.data()) + (begin - at_), end - begin};
    at_ += piece.size();
  }
  void put_into(msghdr& message) noexcept {
    message.msg_iov = vectors_.data();
    message.msg_iovlen = count_;
  }

 private:
  std::size_t from_, to_, at_ = 0, count_ = 0;
  std::array<iovec, 3> vectors_;
};

}  // namespace

outgoing_frame::outgoing_frame(serialization::frame_header header, std::span<const std::byte> body,
                               const detail::descriptor_list* descriptors)
    : body_(body), descriptors_(descriptors) {
  if (descriptors) {
    header.descriptors = static_cast<std::uint16_t>(descriptors->size());
    tickets_.resize(descriptors->size() * sizeof(std::uint64_t));
    std::byte* at = tickets_.data();
    for (const auto& each : descriptors->entries()) {
      std::memcpy(at, &each.ticket, sizeof each.ticket);
      at += sizeof each.ticket;
    }
  }
  header.length = body.size();
  header_ = serialization::write_header(header);
}

ssize_t outgoing_frame::send_some(int socket, int flags) noexcept {
  msghdr message{};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int) * group)];
  std::size_t end = size();

  if (!tickets_.empty() && sent_ < prefix_size()) [[unlikely]] {
    // Each group of descriptors goes with the first byte of its tickets, the first with the header.
    const auto entries = descriptors()->entries();
    constexpr std::size_t group_bytes = group * sizeof(std::uint64_t);
    const std::size_t index = sent_ < header_.size() ? 0 : (sent_ - header_.size()) / group_bytes;
    const auto these = entries.subspan(index * group);
    const std::size_t count = std::min(these.size(), group);
    if (count < these.size()) end = header_.size() + (index + 1) * group_bytes;
    if (sent_ == (index == 0 ? 0 : header_.size() + index * group_bytes)) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      std::memset(control, 0, message.msg_controllen);
      cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(count * sizeof(int));
      for (std::size_t i = 0; i != count; ++i)
        std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &these[i].fd, sizeof(int));
    }
  }

  pieces parts(sent_, end);
  parts.add(header_);
  parts.add(tickets_);
  parts.add(body_);
  parts.put_into(message);
  const ssize_t count = ::sendmsg(socket, &message, flags | MSG_NOSIGNAL);
  if (count > 0) sent_ += static_cast<std::size_t>(count);
  return count;
}

void outgoing_frame::own() {
  if (owning_) return;
  const std::size_t body_sent = sent_ > prefix_size() ? sent_ - prefix_size() : 0;
  const auto left = body_.subspan(body_sent);
  if (descriptors_ && sent_ < prefix_size()) owned_descriptors_ = descriptors_->duplicate();
  owned_body_.assign(left.begin(), left.end());
  body_ = owned_body_;
  sent_ -= body_sent;
  owning_ = true;
}

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/detail/descriptors.hpp>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "serialization/connection_frame.hpp"

namespace carom::runtime {

/// A message on its way out: header, tickets with their descriptors, body. Knows how much has been
/// sent. Refers to the body and the descriptors until it is told to own them.
class outgoing_frame {
 public:
  /// `descriptors` may be null.
  outgoing_frame(serialization::frame_header header, std::span<const std::byte> body,
                 const detail::descriptor_list* descriptors);

  bool begun() const noexcept { return sent_ != 0; }
  bool whole() const noexcept { return sent_ == size(); }

  /// Sends what one system call takes; what sendmsg(2) gives, with errno. Never raises SIGPIPE.
  ssize_t send_some(int socket, int flags) noexcept;

  /// Copies what has not been sent. Throws std::bad_alloc, encoding_error without descriptors.
  void own();
  /// They are not to be closed: this process has not inherited them.
  void forget_descriptors() { new detail::descriptor_list(std::move(owned_descriptors_)); }

 private:
  std::size_t prefix_size() const noexcept { return header_.size() + tickets_.size(); }
  std::size_t size() const noexcept { return prefix_size() + body_.size(); }
  const detail::descriptor_list* descriptors() const noexcept {
    return owning_ ? &owned_descriptors_ : descriptors_;
  }

  serialization::frame_header_bytes header_;
  std::vector<std::byte> tickets_;
  std::span<const std::byte> body_;
  const detail::descriptor_list* descriptors_;
  std::size_t sent_ = 0;
  bool owning_ = false;
  std::vector<std::byte> owned_body_;
  detail::descriptor_list owned_descriptors_;
};

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <carom/listener.hpp>

namespace carom::runtime {

/// An address as the kernel wants it.
struct kernel_address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const noexcept { return storage.ss_family; }
};

/// Looks a host's name up, which may take long. Throws process_error if there is none.
kernel_address resolve(const socket_address& address);
/// None for a Unix socket without a path.
socket_address readable_address(const kernel_address& address);

}  // namespace carom::runtime

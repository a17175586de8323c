// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <span>

#include "runtime/fork_server_outbox.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// epoll for keeper and forker. Descriptors here have duplicates in other processes, which would
/// keep them registered after a close: remove each before it is closed.
class poller {
 public:
  struct event {
    std::uint64_t tag;
    bool readable;
    bool writable;
  };

  /// Throws std::system_error.
  poller();

  void add(int fd, std::uint64_t tag);
  void remove(int fd) noexcept;
  /// Watches for room in a registered channel only while messages wait for it.
  void follow(const outbox&, std::uint64_t tag, bool& watched);

  /// Blocks until something happens, or for the given milliseconds. Valid until the next call.
  std::span<const event> wait(int timeout_ms);

 private:
  static constexpr int batch = 64;
  unique_fd epoll_;
  std::array<event, batch> events_;
};

}  // namespace carom::runtime

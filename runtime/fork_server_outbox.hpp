// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/unique_fd.hpp"
#include "serialization/fork_messages.hpp"

namespace carom::runtime {

/// A channel of the fork server and the messages that wait for room in it.
class outbox {
 public:
  static constexpr std::uint64_t no_tag = UINT64_MAX;

  outbox() = default;
  explicit outbox(channel socket) : socket_(std::move(socket)) {}

  /// Sends a message, or queues it with duplicates of its descriptors while there is no room. `tag`
  /// names it in what `take_sent` returns. What a dead peer should get is dropped without a tag.
  /// False when it is lost because this process has no descriptor left to queue it with.
  bool push(const serialization::fork_message&, std::initializer_list<int> fds = {},
            std::uint64_t tag = no_tag);

  /// Sends what is queued until there is no room.
  void flush();

  /// Tags of the messages now in the kernel's hands, where they outlive this process; each once.
  std::vector<std::uint64_t> take_sent() noexcept { return std::exchange(sent_, {}); }

  bool empty() const noexcept { return queue_.empty(); }
  /// The kernel was short of memory or of descriptors in flight: no event will say when to flush
  /// again.
  bool starved() const noexcept { return starved_; }
  void clear() noexcept { queue_.clear(); }

  int fd() const noexcept { return socket_.fd(); }
  channel& socket() noexcept { return socket_; }

 private:
  struct entry {
    serialization::fork_frame frame;
    std::vector<unique_fd> fds;
    std::uint64_t tag;
  };

  std::error_code deliver(const serialization::fork_frame&, std::span<const int> fds,
                          std::uint64_t tag);

  channel socket_;
  std::deque<entry> queue_;
  std::vector<std::uint64_t> sent_;
  bool starved_ = false;
};

}  // namespace carom::runtime

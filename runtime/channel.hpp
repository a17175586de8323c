// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// What a channel reports beside the codes of the operating system.
enum class channel_errc {
  /// The peer is gone and everything it had sent has been received.
  end_of_file = 1,
  /// Descriptors of a message were lost (MSG_CTRUNC: this process has no free one).
  descriptors_lost,
  /// A message longer than `channel::max_bytes` arrived and was dropped.
  oversized,
};

const std::error_category& channel_category() noexcept;
std::error_code make_error_code(channel_errc) noexcept;

/// One received message: its bytes and the descriptors that came with it.
struct message {
  std::vector<std::byte> bytes;
  std::vector<unique_fd> fds;
};

/// One end of a connected SOCK_SEQPACKET socket between two of our processes: whole messages, in
/// order, with descriptors. Every descriptor, received ones too, is close-on-exec. Not thread safe,
/// but for `send`, which any thread may call.
class channel {
 public:
  static constexpr std::size_t max_bytes = std::size_t{64} * 1024;
  static constexpr std::size_t max_fds = 128;

  channel() noexcept = default;
  explicit channel(unique_fd fd) noexcept : fd_(std::move(fd)) {}

  /// Two connected ends, both above the standard descriptors. Throws std::system_error.
  static std::pair<channel, channel> make_pair();

  /// Sends one message, whole or not at all; `fds` stay the caller's. Never raises SIGPIPE.
  /// `operation_would_block` when the peer's queue is full and `wait` is false; `end_of_file` when
  /// the peer is gone; `message_size` for more than max_bytes or max_fds; `invalid_argument` for no
  /// bytes, which would read as an end.
  std::error_code send(std::span<const std::byte> bytes, std::span<const int> fds = {},
                       bool wait = false) noexcept;

  /// Receives one message into `into`, whose old content is dropped. `operation_would_block` when
  /// there is none and `wait` is false. With `descriptors_lost` the bytes are delivered and all
  /// descriptors closed; with `oversized` nothing is delivered; the channel goes on after both.
  std::error_code receive(message& into, bool wait = false);

  int fd() const noexcept { return fd_.get(); }
  unique_fd release() noexcept { return std::move(fd_); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

 private:
  unique_fd fd_;
};

/// Whether `send` failed for what passes, but that no event tells of: the kernel has no memory, or
/// too many descriptors are on their way in messages that nobody has read (unix(7), ETOOMANYREFS).
bool is_shortage(const std::error_code& error) noexcept;

/// How long who waits for nothing else may wait for such a shortage to pass.
inline constexpr std::chrono::milliseconds patience_in_shortage{10'000};

/// As `channel::send`, but again and again for so long while there is such a shortage.
std::error_code send_patiently(channel& to, std::span<const std::byte> bytes,
                               std::span<const int> fds, std::chrono::milliseconds patience,
                               bool wait);

}  // namespace carom::runtime

template <>
struct std::is_error_code_enum<carom::runtime::channel_errc> : std::true_type {};

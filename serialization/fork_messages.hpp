// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

/// The messages between host, keeper and forker. Descriptors that travel with a message are named
/// beside it.
namespace carom::serialization {

/// Host → keeper → forker, with the worker's end of its channel.
struct fork_request {
  std::uint64_t id = 0;
  bool operator==(const fork_request&) const = default;
};

/// Host → keeper (→ forker): signal the group of a worker; answered by `signalled`.
struct signal_request {
  std::uint64_t sequence = 0;
  std::uint64_t id = 0;
  std::int32_t signal = 0;
  bool operator==(const signal_request&) const = default;
};

/// Host → keeper → forker, with a pidfd: a process that the host forked itself.
struct adopt_request {
  std::uint64_t id = 0;
  std::int32_t pid = 0;
  bool operator==(const adopt_request&) const = default;
};

/// Host → keeper, in answer to a `servers` of a new epoch: what follows is all that is still
/// unanswered, and what came before counts for nothing.
struct resume {
  std::uint64_t epoch = 0;
  bool operator==(const resume&) const = default;
};

/// Keeper → forker: the exit has reached the host, the zombie may go.
struct reap_order {
  std::uint64_t id = 0;
  bool operator==(const reap_order&) const = default;
};

/// Keeper → forker: a worker that the forker knows from the keeper has ended; keeper → host: an
/// adopted process has.
struct gone {
  std::uint64_t id = 0;
  bool operator==(const gone&) const = default;
};

/// Forker → keeper, with the worker's pidfd and the end that releases it; keeper → host, with the
/// pidfd.
struct forked {
  std::uint64_t id = 0;
  std::int32_t pid = 0;
  bool operator==(const forked&) const = default;
};

/// Forker → keeper → host.
struct fork_failed {
  std::uint64_t id = 0;
  std::int32_t error = 0;
  bool operator==(const fork_failed&) const = default;
};

/// Forker → keeper → host.
struct exited {
  std::uint64_t id = 0;
  std::int32_t pid = 0;
  std::int32_t status = 0;
  bool known = false;
  std::uint64_t max_rss_bytes = 0;
  std::uint64_t user_us = 0;
  std::uint64_t system_us = 0;
  bool operator==(const exited&) const = default;
};

/// Forker → keeper → host.
struct signalled {
  std::uint64_t sequence = 0;
  bool operator==(const signalled&) const = default;
};

/// Keeper → host: who serves; a new epoch is a new keeper, which waits for `resume`.
struct servers {
  std::uint64_t epoch = 0;
  std::int32_t keeper = 0;
  std::int32_t forker = 0;
  bool operator==(const servers&) const = default;
};

/// Forker → keeper: booted and serving.
struct forker_ready {
  bool operator==(const forker_ready&) const = default;
};

/// Keeper → forker: the host needs neither any more; everything is to end.
struct leave_order {
  bool operator==(const leave_order&) const = default;
};

using fork_message =
    std::variant<fork_request, signal_request, adopt_request, resume, reap_order, gone, forked,
                 fork_failed, exited, signalled, servers, forker_ready, leave_order>;

/// An encoded message.
struct fork_frame {
  std::array<std::byte, 56> data;
  std::size_t size = 0;
  std::span<const std::byte> bytes() const noexcept { return {data.data(), size}; }
};

fork_frame encode(const fork_message&) noexcept;

/// Empty for whatever `encode` cannot have written: unknown kinds, missing or extra bytes, values
/// out of range.
std::optional<fork_message> decode_fork_message(std::span<const std::byte>) noexcept;

}  // namespace carom::serialization

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// How a process ended.
struct exit_info {
  pid_t pid = 0;
  /// Wait status, for WIFEXITED and its like; meaningful where `known`.
  int status = 0;
  /// False when nobody of ours was the parent and the kernel no longer told the status.
  bool known = false;
  /// Resource use with that of its reaped children; zero where only the status was learnt.
  std::uint64_t max_rss_bytes = 0;
  std::chrono::microseconds user_time{};
  std::chrono::microseconds system_time{};
};

/// A descriptor that names the process itself, not its number; readable once it has ended. Empty
/// with errno on failure.
unique_fd open_pidfd(pid_t) noexcept;

/// Signals the process of a pidfd; the errno, 0 if sent. ESRCH when it was reaped.
int signal_process(int pidfd, int signal) noexcept;

/// Signals the process group that `leader` leads through its pidfd. Never reaches a stranger that
/// reuses the number: kernels before 6.9, which cannot do that, need `is_parent` (an unreaped
/// child's number is not reused), and for others' children signal only while the leader is seen
/// alive or its group outlives it. A leader that has left its group is signalled as well. The
/// errno, 0 if sent.
int signal_group(pid_t leader, int pidfd, int signal, bool is_parent) noexcept;

/// True once the process has ended, reaped or not.
bool has_ended(int pidfd) noexcept;

/// The same, after waiting for it until then.
bool ends_before(int pidfd, std::chrono::steady_clock::time_point until) noexcept;

/// The exit of an own child, which stays a zombie: what a crash of ours before `reap_child` loses,
/// the next parent sees. Empty while it runs.
std::optional<exit_info> peek_child(pid_t) noexcept;

/// Takes an ended child out of the process table; false when it still runs or is no child.
bool reap_child(pid_t) noexcept;

/// The exit of an ended process that is someone else's child, as far as the kernel tells.
exit_info exit_of_stranger(pid_t, int pidfd) noexcept;

}  // namespace carom::runtime

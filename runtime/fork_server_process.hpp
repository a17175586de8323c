// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/fork_server.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/unique_fd.hpp"
#include "serialization/fork_messages.hpp"

namespace carom::runtime {

/// What keeper and forker hold alike, and hand on when one becomes or makes the other.
struct server_context {
  child_hooks hooks;
  pid_t host = 0;
  unique_fd host_pidfd;
  /// The servers' end of the control channel. Only the keeper uses it; with the forker's duplicate
  /// it outlives the keeper.
  channel control;
  /// Where the first forker says how its preload went; closed once that is said.
  unique_fd preload_report;
  /// The host's limit, for the workers; the servers use all that is allowed.
  rlimit descriptor_limit{};
  /// Those of the handles that workers inherit.
  std::vector<int> handle_fds;
  bool booted = false;
  /// Counts keepers.
  std::uint64_t epoch = 0;
};

/// Where every server, and every worker of theirs, holds the pidfd of the host: it tells a family
/// whose an orphan is, and a worker who its logical parent is.
constexpr int host_fd = STDERR_FILENO + 2;
/// Worker: its own pidfd. What it forks inherits it, and so is known to be its own when it has
/// detached itself.
constexpr int mark_fd = host_fd + 1;

/// How long a server that leaves waits for those that end by themselves.
constexpr std::chrono::milliseconds guardians_patience{500};
constexpr std::chrono::milliseconds forkers_patience{2000};

/// Life of the process that `fork_server::start` makes: a keeper, and forks of it that turn forker,
/// and keeper again. Closes `placed` once it can be told whose it is.
[[noreturn]] void serve(server_context, unique_fd placed) noexcept;

/// What the first forker writes when its preload has ended, ahead of the packed exception.
struct preload_report {
  static constexpr std::uint32_t longest = 1 << 20;

  bool failed = false;
  std::uint32_t length = 0;
};

/// Life of a forked worker: cleans up what it inherited, waits until `release` is written to, runs
/// the hook. If `release` ends instead, nobody knows of this worker: it leaves without having
/// touched its channel.
[[noreturn]] void run_worker(const server_context&, int channel_fd, int release_fd) noexcept;

/// Lets a worker begin that waits for it; harmless for one that has begun.
void release_worker(int release_fd) noexcept;

serialization::exited exit_message(std::uint64_t id, const exit_info&) noexcept;

/// Events of keeper and forker that are no worker's.
enum server_tag : std::uint64_t {
  control_tag = fork_server::max_id,
  peer_channel_tag,
  peer_pidfd_tag,
  host_tag,
  children_tag,
};

/// Milliseconds after which a server in trouble (no memory, no process number) tries again;
/// otherwise it never polls.
constexpr int retry_ms = 10;

}  // namespace carom::runtime

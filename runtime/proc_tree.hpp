// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <optional>
#include <vector>

namespace carom::runtime {

/// What /proc tells about a process at one moment.
struct proc_entry {
  pid_t pid = 0;
  pid_t parent = 0;
  pid_t group = 0;
  char state = '?';
  /// Wait status of a zombie.
  int exit_code = 0;

  bool is_zombie() const noexcept { return state == 'Z' || state == 'X'; }

  /// Empty where there is no such process.
  static std::optional<proc_entry> read(pid_t) noexcept;
};

/// The direct children of a process, of all its threads, zombies included. A snapshot: exact for
/// the calling process while it forks nothing, a hint for others.
std::vector<pid_t> children_of(pid_t);

/// The same from an open `/proc/<pid>/task/<tid>/children`, for that thread.
std::optional<std::vector<pid_t>> read_children(int file);

/// The process that descriptor `fd` of process `owner` names, where that is a pidfd and neither has
/// been reaped; else 0 or less.
pid_t pid_behind(pid_t owner, int fd) noexcept;

/// Those whose descriptor `fd` names process `named`, as `pid_behind` tells. A snapshot of /proc.
std::vector<pid_t> holders_of(pid_t named, int fd);

/// SIGKILLs those, and what they fork meanwhile.
void kill_holders(pid_t named, int fd);

/// SIGKILLs all others that share the open file behind descriptor `fd` of this process, under the
/// same number, as its copies do; but not `spared`, nor the process that it names where it is a
/// pidfd.
void kill_sharers(int fd, pid_t spared);

/// Whether `pid` has the file behind this process's `fd` under the same number: it is a copy of
/// this process, or this one of it (kcmp(2)). Nothing where the kernel cannot tell.
std::optional<bool> shares_file(pid_t pid, int fd) noexcept;

/// Number of threads of this process; 0 where /proc does not tell.
int count_threads() noexcept;

/// SIGKILLs a child of this process, with its group if it leads one.
void kill_child(pid_t) noexcept;

/// SIGKILLs all children of this process, with the groups they lead, and what comes to it of them
/// if it is a child subreaper; returns when it has no child.
void end_children();

/// SIGKILLs a process and all its descendants, those in other groups and sessions too: first stops
/// each so that none forks away, until a look at all of them finds no new one. For processes that
/// are not our children; signals by pidfd only, so a reused number is never hit. Misses what had
/// detached before (see PR_SET_CHILD_SUBREAPER). Waits a moment for what cannot be stopped at once.
void kill_tree(pid_t root, int root_pidfd);

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace carom::test {

/// What /proc says of a process.
struct process_status {
  pid_t pid = 0;
  char state = '?';
  pid_t parent = 0;
  pid_t group = 0;
  pid_t session = 0;
};
std::optional<process_status> status_of(pid_t pid);
std::vector<process_status> all_processes();

/// Marks this process and all that are forked below it, however they detach: see family_of.
void found_family();
/// The processes that live (zombies do not) and descend by fork from `founder`, itself excluded.
std::vector<pid_t> family_of(pid_t founder);
bool is_of_family(pid_t founder, pid_t pid);

/// Keeper and forker of this process, as the family shows them; 0 where there is none now.
struct server_pids {
  pid_t keeper = 0;
  pid_t forker = 0;
};
server_pids fork_servers_of(pid_t founder);

/// Children of this process, zombies too.
std::vector<pid_t> own_children();
std::size_t open_descriptors(pid_t pid);
std::size_t threads_of(pid_t pid);
/// Mappings that are shared with other processes: pages, rings, segments.
std::size_t shared_mappings(pid_t pid);
/// Bytes of anonymous and shared memory that are resident, without the file pages of the program.
std::uint64_t resident_bytes(pid_t pid);
/// Context switches of all threads but one so far.
std::uint64_t context_switches(pid_t pid, pid_t except_thread = 0);

/// Signals a process of `founder`'s family; false if it is none, or gone. Never hits a process that
/// has got the number since.
bool signal_family(pid_t founder, pid_t pid, int signal);

}  // namespace carom::test

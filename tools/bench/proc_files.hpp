// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace bench {

/// What /proc tells of a process. All throw std::runtime_error if it is gone.
pid_t parent_of(pid_t pid);
/// All processes below `pid`, without itself.
std::vector<pid_t> descendants_of(pid_t pid);
/// Proportional set size, in bytes.
double proportional_size(pid_t pid);
/// Resident set size, in bytes.
double resident_size(pid_t pid);
/// Times that threads of `pid` were switched to, but for thread `except`.
std::uint64_t context_switches(pid_t pid, pid_t except = 0);

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <poll.h>
#include <sys/types.h>
#include <unistd.h>

#include <carom/actor.hpp>  // pools are made here: no part of ThreadSanitizer's build
#include <carom/carom.hpp>
#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace carom::test {

/// A pipe between a test and a process, whatever start method made that.
struct pipe_ends {
  file_descriptor read, write;
  pipe_ends();
};

void write_line(int fd, const std::string& line);
/// Everything up to the end.
std::string read_all(int fd);
/// The next line; empty at the end or when it does not come.
std::string read_line(int fd);

/// Starts it at once.
template <class... As>
process started(As&&... args) {
  process one(std::forward<As>(args)...);
  one.start();
  return one;
}

bool is_among(const process& one, const std::vector<process_handle>& all);

/// For a function of a process: says on the board that it is there, then stays until it is killed.
inline void stay(unsigned slot) {
  board::set(slot, static_cast<std::uint32_t>(::getpid()));
  for (;;) ::pause();
}
inline void ignore_and_stay(unsigned slot) {
  std::signal(SIGTERM, SIG_IGN);
  stay(slot);
}
inline void nothing() {}
inline void leave_with(int code) { std::exit(code); }
inline void die_of(int signal) { ::raise(signal); }
inline int square(int x) { return x * x; }

/// A pid that a process has written on the board; 0 if it does not come.
pid_t pid_on_board(unsigned slot);
/// Whether there is such a process, not counting zombies.
bool is_running(pid_t pid);
/// The fork server that a process has started, wherever it stands now.
server_pids servers_of_host(pid_t host);
bool gone_within_a_second(const std::vector<pid_t>& pids);

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <string>

#include "tests/support/board.hpp"

/// Tasks that many tests run.
namespace tasks {

namespace board = carom::test::board;

inline int square(int x) { return x * x; }
inline void nothing() {}
inline pid_t worker() { return ::getpid(); }
inline pid_t parent_of_worker() { return ::getppid(); }

/// Tells the board that it has begun, then waits there to be released.
inline pid_t hold(unsigned begun, unsigned release) {
  board::add(begun);
  board::wait(release, 1, std::chrono::minutes(2));
  return ::getpid();
}

/// Counts on the board.
inline std::uint32_t count(unsigned slot) { return board::add(slot); }

inline int die_of(int signal) {
  std::raise(signal);
  return 0;
}

}  // namespace tasks

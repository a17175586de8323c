// SPDX-License-Identifier: BSL-1.0
#include "tests/queue/queue_support.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <random>
#include <stdexcept>

#include "tests/support/eventually.hpp"

namespace carom::test {

forked_process::forked_process(const std::function<int()>& run) {
  let_threads_rest();
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ != 0) return;
  int status = exit_of_exception;
  try {
    status = run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "in a forked process: %s\n", e.what());
  }
  ::_exit(status);
}

forked_process::~forked_process() {
  if (pid_ == 0) return;
  kill();
  (void)wait();
}

void forked_process::kill(int signal) const { ::kill(pid_, signal); }

int forked_process::wait() {
  int status = 0;
  const pid_t pid = std::exchange(pid_, 0);
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

std::uint64_t seed() {
  const char* given = std::getenv("CAROM_SEED");
  const std::uint64_t chosen = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "CAROM_SEED=" << chosen << '\n';
  return chosen;
}

}  // namespace carom::test

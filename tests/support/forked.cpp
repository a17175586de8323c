// SPDX-License-Identifier: BSL-1.0
#include "tests/support/forked.hpp"

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <utility>

#include "tests/support/eventually.hpp"

namespace carom::test {
namespace {

[[noreturn]] void run(const std::function<bool()>& body) {
  try {
    ::_exit(body() ? 0 : 1);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "a forked process threw: %s\n", e.what());
  } catch (...) {
    std::fputs("a forked process threw\n", stderr);
  }
  ::_exit(1);
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) throw std::runtime_error("waitpid");
  return status;
}

pid_t fork_or_throw() {
  const pid_t parent = ::getpid();
  let_threads_rest();
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
  }
  return pid;
}

}  // namespace

forked::forked(const std::function<bool()>& body) : pid_(fork_or_throw()) {
  if (pid_ == 0) run(body);
}
forked::forked(forked&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
forked& forked::operator=(forked&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}
forked::~forked() { kill(); }

void forked::kill() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  wait_for(std::exchange(pid_, 0));
}

bool forked::succeeded() {
  if (pid_ == 0) return false;
  const int status = wait_for(std::exchange(pid_, 0));
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool killed_at_instruction(const std::function<void()>& body, long instructions) {
  const pid_t pid = fork_or_throw();
  if (pid == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    std::raise(SIGSTOP);
    body();
    std::raise(SIGSTOP);  // stands for the end
    ::_exit(0);
  }
  wait_for(pid);
  bool reached = true;
  for (long i = 0; i < instructions && reached; ++i) {
    ::ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr);
    const int status = wait_for(pid);
    reached = WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP;
  }
  ::kill(pid, SIGKILL);
  wait_for(pid);
  return reached;
}

}  // namespace carom::test

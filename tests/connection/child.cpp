// SPDX-License-Identifier: BSL-1.0
#include "tests/connection/child.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <system_error>
#include <utility>

#include "tests/support/eventually.hpp"

namespace carom::test {

child::child(const std::function<void()>& body) {
  const pid_t parent = ::getpid();
  std::fflush(nullptr);
  let_threads_rest();
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(2);
    int status = 0;
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "a child of the test: %s\n", error.what());
      status = 1;
    }
    ::_exit(status);
  }
  pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
}

child::child(child&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), pidfd_(std::exchange(other.pidfd_, -1)) {}

child& child::operator=(child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(pidfd_, other.pidfd_);
  return *this;
}

child::~child() {
  if (pid_ > 0) {
    kill();
    join();
  }
  if (pidfd_ >= 0) ::close(pidfd_);
}

void child::kill() const { ::kill(pid_, SIGKILL); }

int child::join() {
  int status = 0;
  pid_t ended;
  do ended = ::waitpid(pid_, &status, 0);
  while (ended < 0 && errno == EINTR);
  pid_ = 0;
  if (ended < 0) throw std::system_error(errno, std::generic_category(), "waitpid");
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#include "runtime/direct_fork.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <vector>

namespace carom::runtime {
namespace {

/// What the library and careful hosts open is close-on-exec and none of the worker's business: a
/// sibling's channel kept open here would hide that sibling's end.
void close_private_descriptors(int keep) {
  std::vector<int> open;
  if (DIR* dir = ::opendir("/proc/self/fd")) {
    while (const dirent* entry = ::readdir(dir)) {
      const int fd = ::atoi(entry->d_name);
      if (fd > 2 && fd != keep && fd != ::dirfd(dir)) open.push_back(fd);
    }
    ::closedir(dir);
  }
  for (int fd : open)
    if (const int flags = ::fcntl(fd, F_GETFD); flags >= 0 && (flags & FD_CLOEXEC)) ::close(fd);
}

void reset_signals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void become_worker(unique_fd worker_end, child_hooks hooks) {
  ::setpgid(0, 0);
  reset_signals();
  ::prctl(PR_SET_NAME, "carom-worker");
  // Its detached descendants stay findable below it for the keeper.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  // What the host had not flushed is the host's to write.
  ::__fpurge(stdout);
  ::__fpurge(stderr);
  close_private_descriptors(worker_end.get());
  if (const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC); null > 0) {
    ::dup2(null, STDIN_FILENO);
    ::close(null);
  }
  hooks.run(channel(std::move(worker_end)));
  ::_exit(0);
}

}  // namespace

unique_fd direct_child::duplicate_pidfd() const {
  return unique_fd(::fcntl(pidfd_.get(), F_DUPFD_CLOEXEC, 3));
}

void direct_child::signal_group(int signal) const noexcept {
  runtime::signal_group(pid_, pidfd_.get(), signal, true);
}

exit_info direct_child::reap() const noexcept {
  auto info = peek_child(pid_);
  if (!info) {
    // The host's own wait was faster; its status is known to the host alone.
    exit_info unknown;
    unknown.pid = pid_;
    return unknown;
  }
  runtime::signal_group(pid_, pidfd_.get(), SIGKILL, true);
  reap_child(pid_);
  return *info;
}

direct_child fork_directly(unique_fd worker_end, child_hooks hooks) {
  const pid_t pid = ::fork();
  if (pid < 0) return direct_child(errno);
  if (pid == 0) become_worker(std::move(worker_end), hooks);
  ::setpgid(pid, pid);  // here too: the group may be signalled before the child has run
  unique_fd pidfd = open_pidfd(pid);
  if (!pidfd) {
    const int error = errno;
    ::kill(pid, SIGKILL);
    reap_child(pid);
    return direct_child(error);
  }
  return direct_child(pid, std::move(pidfd));
}

}  // namespace carom::runtime

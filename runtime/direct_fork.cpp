// SPDX-License-Identifier: BSL-1.0
#include "runtime/direct_fork.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <vector>

#include "runtime/handle_fd.hpp"
#include "runtime/inherited_output.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"

namespace carom::runtime {
namespace {

enum class handles { kept, closed };

/// What the library and careful hosts open is close-on-exec and none of the worker's business: a
/// sibling's channel kept open here would hide that sibling's end. The memory of locks and their
/// like hides nothing, and a worker goes on with those that it inherits.
void close_private_descriptors(std::initializer_list<int> keep, handles inherited) {
  std::vector<int> open;
  if (DIR* dir = ::opendir("/proc/self/fd")) {
    while (const dirent* entry = ::readdir(dir)) {
      const int fd = ::atoi(entry->d_name);
      if (fd > 2 && std::ranges::find(keep, fd) == keep.end() && fd != ::dirfd(dir))
        open.push_back(fd);
    }
    ::closedir(dir);
  }
  for (int fd : open)
    if (const int flags = ::fcntl(fd, F_GETFD); flags >= 0 && (flags & FD_CLOEXEC))
      if (inherited == handles::closed || !is_of_handle(fd)) ::close(fd);
  handle_fd::note_closing();
}

void reset_signals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void become_worker(unique_fd worker_end, child_hooks hooks, pid_t host,
                                unique_fd host_pidfd) {
  ::setpgid(0, 0);
  leave_loop_thread();
  ::prctl(PR_SET_NAME, "carom-worker");
  drop_inherited_output();
  close_private_descriptors({worker_end.get(), host_pidfd.get()}, handles::kept);
  own_process::set_parent_pidfd(host, host_pidfd.release());
  if (const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC); null > 0) {
    ::dup2(null, STDIN_FILENO);
    ::close(null);
  }
  hooks.run(channel(std::move(worker_end)));
  ::_exit(0);
}

/// Ends as `status` says that another process has ended.
[[noreturn]] void end_like(int status) {
  if (WIFEXITED(status)) ::_exit(WEXITSTATUS(status));
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);  // the worker's own core is enough
  ::kill(::getpid(), WTERMSIG(status));
  ::_exit(128 + WTERMSIG(status));
}

/// Until the worker has ended; it is ended when the host is.
void watch_over(pid_t worker, int host_pidfd) {
  const unique_fd worker_pidfd = open_pidfd(worker);
  pollfd waited[] = {{worker_pidfd.get(), POLLIN, 0}, {host_pidfd, POLLIN, 0}};
  while (worker_pidfd && (waited[0].revents & POLLIN) == 0) {
    if (::poll(waited, 2, -1) < 0 && errno != EINTR) break;
    if ((waited[1].revents & POLLIN) == 0) continue;
    ::kill(-worker, SIGKILL);
    waited[1].fd = -1;
    waited[1].revents = 0;
  }
  siginfo_t ended{};
  while (::waitid(P_PID, static_cast<id_t>(worker), &ended, WEXITED | WNOWAIT) < 0 &&
         errno == EINTR) {
  }
}

[[noreturn]] void become_guardian(unique_fd worker_end, child_hooks hooks, unique_fd to_host,
                                  pid_t host, unique_fd host_pidfd) {
  ::setpgid(0, 0);
  reset_signals();
  ::prctl(PR_SET_NAME, "carom-guardian");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t self = ::getpid();
  const pid_t worker = ::fork();
  if (worker == 0) {
    // Armed from the guardian's only thread, so it is the guardian's end that it tells of.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != self) ::_exit(1);
    become_worker(std::move(worker_end), hooks, host, std::move(host_pidfd));
  }
  const pid_t told = worker > 0 ? worker : -errno;
  if (worker > 0) ::setpgid(worker, worker);
  char heard = 0;
  if (::write(to_host.get(), &told, sizeof told) != sizeof told || worker < 0) ::_exit(1);
  // The host opens the worker's pidfd while the worker cannot be reaped.
  if (::read(to_host.get(), &heard, 1) < 0) ::_exit(1);
  close_private_descriptors({host_pidfd.get()}, handles::closed);
  watch_over(worker, host_pidfd.get());
  ::kill(-worker, SIGKILL);
  int status = 0;
  ::waitpid(worker, &status, 0);
  end_children();
  end_like(status);
}

}  // namespace

unique_fd direct_child::duplicate_pidfd() const {
  return unique_fd(::fcntl(guardian_fd_.get(), F_DUPFD_CLOEXEC, 3));
}

unique_fd direct_child::duplicate_worker_pidfd() const {
  return unique_fd(::fcntl(worker_fd_.get(), F_DUPFD_CLOEXEC, 3));
}

void direct_child::signal_group(int signal) const noexcept {
  runtime::signal_group(worker_, worker_fd_.get(), signal, false);
}

void direct_child::end() noexcept {
  if (guardian_ <= 0) return;
  watch.reset();
  signal_group(SIGKILL);
  // Behind the worker it ends what that has left.
  ::siginfo_t ended{};
  while (::waitid(P_PID, static_cast<id_t>(guardian_), &ended, WEXITED) < 0 && errno == EINTR) {
  }
}

exit_info direct_child::reap() const noexcept {
  auto info = peek_child(guardian_);
  exit_info seen;
  // Empty if the host's own wait was faster: then the status is known to the host alone.
  if (info) {
    seen = *info;
    reap_child(guardian_);
  }
  seen.pid = worker_;
  return seen;
}

direct_child fork_directly(unique_fd worker_end, child_hooks hooks) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return direct_child(errno);
  unique_fd ours(ends[0]), theirs(ends[1]);
  const pid_t self = ::getpid();
  unique_fd own_pidfd = open_pidfd(self);
  if (!own_pidfd) return direct_child(errno);
  const pid_t guardian = ::fork();
  if (guardian < 0) return direct_child(errno);
  if (guardian == 0) {
    ours.reset();
    become_guardian(std::move(worker_end), hooks, std::move(theirs), self, std::move(own_pidfd));
  }
  theirs.reset();
  unique_fd guardian_fd = open_pidfd(guardian);
  pid_t worker = 0;
  ssize_t got = 0;
  while ((got = ::read(ours.get(), &worker, sizeof worker)) < 0 && errno == EINTR) {
  }
  unique_fd worker_fd;
  if (got == sizeof worker && worker > 0) worker_fd = open_pidfd(worker);
  if (guardian_fd && worker_fd) {
    const char heard = 1;
    if (::write(ours.get(), &heard, 1) == 1)
      return direct_child(guardian, std::move(guardian_fd), worker, std::move(worker_fd));
  }
  const int error = got == sizeof worker && worker < 0 ? -worker : EAGAIN;
  ::kill(guardian, SIGKILL);
  int status = 0;
  ::waitpid(guardian, &status, 0);
  return direct_child(error);
}

}  // namespace carom::runtime

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
#include <climits>
#include <initializer_list>
#include <vector>

#include "runtime/above_stdio.hpp"
#include "runtime/exit_hook.hpp"
#include "runtime/handle_fd.hpp"
#include "runtime/inherited_output.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"

namespace carom::runtime {
namespace {

/// What a guardian says once its worker is there: the worker, and the number under which that and
/// all that it forks hold a pidfd of the guardian.
struct birth {
  pid_t worker = 0;  // or a negative errno
  int mark = -1;
};

/// What it says when the worker has ended.
struct death {
  int status = 0;
  std::uint64_t max_rss_bytes = 0;
  std::uint64_t user_us = 0;
  std::uint64_t system_us = 0;
};

/// What the library and careful hosts open is close-on-exec and none of the worker's business: a
/// sibling's channel kept open here would hide that sibling's end. The memory of locks and their
/// like hides nothing, and a worker goes on with those that it inherits.
void close_private_descriptors(std::initializer_list<int> keep) {
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
      if (!is_of_handle(fd)) ::close(fd);
  handle_fd::note_closing();
}

void replace_by_null(std::initializer_list<int> standard) {
  const unique_fd null = try_above_stdio(unique_fd(::open("/dev/null", O_RDWR | O_CLOEXEC)));
  if (!null) return;
  for (const int fd : standard) ::dup2(null.get(), fd);
}

/// Whatever a guardian kept open, for as long as its worker lives, would hide the end of a pipe.
void close_all_but(int one, int other) {
  const auto low = static_cast<unsigned>(std::min(one, other));
  const auto high = static_cast<unsigned>(std::max(one, other));
  constexpr unsigned first = STDERR_FILENO + 1;
  if (low > first) ::close_range(first, low - 1, 0);
  if (high > low + 1) ::close_range(low + 1, high - 1, 0);
  ::close_range(high + 1, UINT_MAX, 0);
  replace_by_null({STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO});
  handle_fd::note_closing();
}

void reset_signals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void become_worker(unique_fd worker_end, child_hooks hooks, pid_t host,
                                unique_fd host_pidfd, int mark) {
  ::setpgid(0, 0);
  leave_loop_thread();
  ::prctl(PR_SET_NAME, "carom-worker");
  drop_inherited_output();
  close_private_descriptors({worker_end.get(), host_pidfd.get(), mark});
  own_process::set_parent_pidfd(host, host_pidfd.release());
  forget_exit_hook();
  replace_by_null({STDIN_FILENO});
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

/// Whether the worker is among the ended children; the others are reaped.
bool has_ended_child(pid_t worker) {
  siginfo_t ended{};
  while (::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0) {
    if (ended.si_pid == worker) return true;
    reap_child(ended.si_pid);
    ended = {};
  }
  return false;
}

/// Until the worker has ended; it is ended when the host is. Needs no descriptor but the host's.
void watch_over(pid_t worker, int host_pidfd) {
  sigset_t children, none;
  ::sigemptyset(&none);
  ::sigemptyset(&children);
  ::sigaddset(&children, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &children, nullptr);
  struct sigaction awake {};
  awake.sa_handler = [](int) {};
  awake.sa_flags = SA_NOCLDSTOP;
  ::sigaction(SIGCHLD, &awake, nullptr);
  pollfd host{host_pidfd, POLLIN, 0};
  while (!has_ended_child(worker)) {
    if (::ppoll(&host, 1, nullptr, &none) <= 0) continue;
    ::kill(-worker, SIGKILL);
    ::kill(worker, SIGKILL);  // it may have left its group
    host = {-1, 0, 0};
  }
}

/// The host may ignore SIGCHLD, and then nobody keeps a wait status for it.
void tell_death(const unique_fd& to_host, int status) {
  rusage used{};
  ::getrusage(RUSAGE_CHILDREN, &used);
  const auto microseconds = [](const timeval& time) {
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 +
           static_cast<std::uint64_t>(time.tv_usec);
  };
  const death told{status, static_cast<std::uint64_t>(used.ru_maxrss) * 1024,
                   microseconds(used.ru_utime), microseconds(used.ru_stime)};
  ::send(to_host.get(), &told, sizeof told, MSG_NOSIGNAL | MSG_DONTWAIT);
}

[[noreturn]] void become_guardian(unique_fd worker_end, child_hooks hooks, unique_fd to_host,
                                  pid_t host, unique_fd host_pidfd) {
  ::setpgid(0, 0);
  reset_signals();
  ::prctl(PR_SET_NAME, "carom-guardian");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t self = ::getpid();
  const unique_fd mark = try_above_stdio(open_pidfd(self));
  const pid_t worker = ::fork();
  if (worker == 0) {
    // Armed from the guardian's only thread, so it is the guardian's end that it tells of.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != self) ::_exit(1);
    become_worker(std::move(worker_end), hooks, host, std::move(host_pidfd), mark.get());
  }
  const birth told{worker > 0 ? worker : -errno, mark.get()};
  if (worker > 0) ::setpgid(worker, worker);
  const bool said = ::send(to_host.get(), &told, sizeof told, MSG_NOSIGNAL) == sizeof told;
  if (worker < 0) ::_exit(1);
  // The host opens the worker's pidfd while the worker cannot be reaped. One that is killed now
  // answers with an end or an error: there is a worker to end, and what that has forked, all the
  // same.
  char heard = 0;
  while (said && ::read(to_host.get(), &heard, 1) < 0 && errno == EINTR) {
  }
  close_all_but(host_pidfd.get(), to_host.get());
  watch_over(worker, host_pidfd.get());
  ::kill(-worker, SIGKILL);
  int status = 0;
  ::waitpid(worker, &status, 0);
  tell_death(to_host, status);
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
  exit_info seen;
  death told;
  if (::recv(told_.get(), &told, sizeof told, MSG_DONTWAIT) == sizeof told) {
    seen = {worker_,
            told.status,
            true,
            told.max_rss_bytes,
            std::chrono::microseconds(told.user_us),
            std::chrono::microseconds(told.system_us)};
  } else {
    // It was killed, and the worker with it; what that leaves has no subreaper of ours any more.
    signal_group(SIGKILL);
    if (mark_ >= 0) kill_holders(guardian_, mark_);
    const auto own = peek_child(guardian_);
    seen = own ? *own : exit_of_stranger(worker_, worker_fd_.get());
    seen.pid = worker_;
  }
  reap_child(guardian_);
  return seen;
}

direct_child fork_directly(unique_fd worker_end, child_hooks hooks) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return direct_child(errno);
  unique_fd ours = try_above_stdio(unique_fd(ends[0]));
  unique_fd theirs = try_above_stdio(unique_fd(ends[1]));
  const pid_t self = ::getpid();
  unique_fd own_pidfd = try_above_stdio(open_pidfd(self));
  worker_end = try_above_stdio(std::move(worker_end));
  if (!ours || !theirs || !own_pidfd || !worker_end) return direct_child(errno);
  const pid_t guardian = ::fork();
  if (guardian < 0) return direct_child(errno);
  if (guardian == 0) {
    ours.reset();
    become_guardian(std::move(worker_end), hooks, std::move(theirs), self, std::move(own_pidfd));
  }
  theirs.reset();
  unique_fd guardian_fd = open_pidfd(guardian);
  birth told;
  ssize_t got = 0;
  while ((got = ::read(ours.get(), &told, sizeof told)) < 0 && errno == EINTR) {
  }
  unique_fd worker_fd;
  if (got == sizeof told && told.worker > 0) worker_fd = open_pidfd(told.worker);
  if (guardian_fd && worker_fd) {
    const char heard = 1;
    if (::send(ours.get(), &heard, 1, MSG_NOSIGNAL) == 1)
      return direct_child(guardian, std::move(guardian_fd), told.worker, std::move(worker_fd),
                          std::move(ours), told.mark);
  }
  const int error = got == sizeof told && told.worker < 0 ? -told.worker : EAGAIN;
  ::kill(guardian, SIGKILL);
  int status = 0;
  ::waitpid(guardian, &status, 0);
  return direct_child(error);
}

}  // namespace carom::runtime

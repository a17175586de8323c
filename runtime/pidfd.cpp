// SPDX-License-Identifier: BSL-1.0
#include "runtime/pidfd.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <carom/detail/start_path.hpp>
#include <cerrno>

#include "runtime/above_stdio.hpp"
#include "runtime/proc_tree.hpp"

namespace carom::runtime {

namespace {

constexpr unsigned signal_process_group = 1u << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9

// struct pidfd_info and PIDFD_GET_INFO as of Linux 6.15, where the exit code came; Debian 12's
// headers have neither.
struct pidfd_info_v1 {
  std::uint64_t mask;
  std::uint64_t cgroup;
  std::uint32_t pid, tgid, ppid;
  std::uint32_t uids_and_gids[8];
  std::int32_t exit_code;
};
static_assert(sizeof(pidfd_info_v1) == 64);
constexpr std::uint64_t info_exit = 1u << 3;
constexpr unsigned long get_info = _IOWR(0xFF, 11, pidfd_info_v1);

int send_signal(int pidfd, int signal, unsigned flags) noexcept {
  return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, flags) == 0 ? 0 : errno;
}

/// To all that are in the group that `leader` has made.
int signal_members(pid_t leader, int pidfd, int signal, bool is_parent) noexcept {
  if (is_parent) return ::kill(-leader, signal) == 0 ? 0 : errno;
  if (const int error = send_signal(pidfd, signal, signal_process_group); error != EINVAL)
    return error;
  // A reaped leader's number belongs to its group while one is left: it is a stranger's only if a
  // process has it.
  const bool leader_left = send_signal(pidfd, 0, 0) == 0;
  if (!leader_left && ::kill(leader, 0) == 0) return ESRCH;
  return ::kill(-leader, signal) == 0 ? 0 : errno;
}

std::chrono::microseconds to_microseconds(const timeval& time) {
  return std::chrono::seconds{time.tv_sec} + std::chrono::microseconds{time.tv_usec};
}

}  // namespace

CAROM_START_PATH unique_fd open_pidfd(pid_t pid) noexcept {
  return try_above_stdio(unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))});
}

int signal_process(int pidfd, int signal) noexcept { return send_signal(pidfd, signal, 0); }

int signal_group(pid_t leader, int pidfd, int signal, bool is_parent) noexcept {
  const int error = signal_members(leader, pidfd, signal, is_parent);
  // Who has left its group, by setpgid(2), is told alone. A second SIGKILL does no harm, so that
  // there is no look that it could escape.
  if (signal != SIGKILL && ::getpgid(leader) == leader) return error;
  return signal_process(pidfd, signal) == 0 ? 0 : error;
}

bool has_ended(int pidfd) noexcept {
  pollfd entry{pidfd, POLLIN, 0};
  int ready;
  do ready = ::poll(&entry, 1, 0);
  while (ready < 0 && errno == EINTR);
  return ready > 0;
}

bool ends_before(int pidfd, std::chrono::steady_clock::time_point until) noexcept {
  using std::chrono::milliseconds;
  pollfd entry{pidfd, POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(until - std::chrono::steady_clock::now());
    const int ready = ::poll(&entry, 1, static_cast<int>(std::max(left, milliseconds{0}).count()));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

std::optional<exit_info> peek_child(pid_t pid) noexcept {
  siginfo_t info{};
  rusage usage{};
  // The system call, unlike its wrapper, tells the resource use.
  if (::syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOWAIT | WNOHANG, &usage) != 0 ||
      info.si_pid == 0)
    return std::nullopt;
  exit_info result;
  result.pid = pid;
  result.known = true;
  switch (info.si_code) {
    case CLD_EXITED: result.status = W_EXITCODE(info.si_status, 0); break;
    case CLD_DUMPED: result.status = info.si_status | WCOREFLAG; break;
    default: result.status = info.si_status; break;
  }
  result.max_rss_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  result.user_time = to_microseconds(usage.ru_utime);
  result.system_time = to_microseconds(usage.ru_stime);
  return result;
}

bool reap_child(pid_t pid) noexcept { return ::waitpid(pid, nullptr, WNOHANG) == pid; }

exit_info exit_of_stranger(pid_t pid, int pidfd) noexcept {
  exit_info result;
  result.pid = pid;
  const auto ask_kernel = [&] {
    pidfd_info_v1 info{};
    info.mask = info_exit;
    if (::ioctl(pidfd, get_info, &info) != 0 || (info.mask & info_exit) == 0) return false;
    result.known = true;
    result.status = info.exit_code;
    return true;
  };
  // Only once it is reaped; before that /proc has the status, and what that says counts if the
  // number is still this process's.
  if (ask_kernel()) return result;
  const auto entry = proc_entry::read(pid);
  if (entry && entry->is_zombie() && send_signal(pidfd, 0, 0) == 0) {
    result.known = true;
    result.status = entry->exit_code;
    return result;
  }
  ask_kernel();
  return result;
}

}  // namespace carom::runtime

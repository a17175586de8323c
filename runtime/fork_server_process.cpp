// SPDX-License-Identifier: BSL-1.0
#include "runtime/fork_server_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <carom/detail/start_path.hpp>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "runtime/forker.hpp"
#include "runtime/handle_fd.hpp"
#include "runtime/keeper.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"

namespace carom::runtime {

namespace {

constexpr int first_fd = STDERR_FILENO + 1;

/// Not among the constants, which no new process has mapped yet.
CAROM_START_DATA char worker_name[] = "carom-worker";

void default_signals() {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void set_server_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t children;
  ::sigemptyset(&children);
  ::sigaddset(&children, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &children, nullptr);
}

/// The servers have left everything else at its default.
CAROM_START_PATH void worker_signals() {
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// Closes everything above the standard descriptors but these; -1 among the three is none.
CAROM_START_PATH void keep_only(int one, int two, int three, std::span<const int> ascending) {
  unsigned from = first_fd;
  auto many = ascending.begin();
  // The lowest that is left, again and again, without memory of its own: a new process that asks
  // for none has fewer pages to copy.
  for (;;) {
    unsigned next = UINT_MAX;
    const auto consider = [&](int fd) {
      if (fd >= 0 && static_cast<unsigned>(fd) >= from)
        next = std::min(next, static_cast<unsigned>(fd));
    };
    consider(one);
    consider(two);
    consider(three);
    while (many != ascending.end() && static_cast<unsigned>(*many) < from) ++many;
    if (many != ascending.end()) consider(*many);
    if (next == UINT_MAX) break;
    if (next > from) ::close_range(from, next - 1, 0);
    from = next + 1;
  }
  ::close_range(from, UINT_MAX, 0);
  handle_fd::note_closing();
}

void null_stdin() {
  // Standard descriptors that the host had closed are opened too, so that no other descriptor ever
  // gets their number.
  int null;
  do null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  while (null >= 0 && null < first_fd);
  if (null < 0) return;
  ::dup2(null, STDIN_FILENO);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) ::fcntl(fd, F_SETFD, 0);
  ::close(null);
}

/// A descriptor's number made at least `lowest`.
CAROM_START_PATH int lift(int fd, int lowest) {
  return fd >= lowest ? fd : ::fcntl(fd, F_DUPFD_CLOEXEC, lowest);
}

}  // namespace

void serve(server_context context, unique_fd placed) noexcept {
  ::setsid();
  default_signals();
  set_server_signals();
  null_stdin();
  // All out of the way of the number that is the host's.
  const auto move_up = [](unique_fd& fd) {
    if (fd) fd = unique_fd{::fcntl(fd.get(), F_DUPFD_CLOEXEC, host_fd + 1)};
  };
  unique_fd control = context.control.release();
  move_up(control);
  move_up(context.preload_report);
  move_up(placed);
  if (context.host_pidfd.get() != host_fd) {
    ::dup3(context.host_pidfd.get(), host_fd, O_CLOEXEC);
    context.host_pidfd = unique_fd{host_fd};
  }
  context.control = channel{std::move(control)};
  keep_only(host_fd, context.control.fd(), context.preload_report.get(), descriptors_of_handles());
  placed.release();  // closed just now: from here on our starter may end
  if (rlimit limit; ::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    context.descriptor_limit = limit;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  keeper_seat seat{std::move(context), {}};
  // What is called from here begins at the top of a page, so that a fork and its child write to as
  // few as can be.
  constexpr std::uintptr_t page = 4096;
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_alloca(1));
  [[maybe_unused]] void* const volatile unused = __builtin_alloca(here % page);
  for (;;) {
    forker_seat next = keeper{std::move(seat)}.serve();
    seat = forker{std::move(next)}.serve();
  }
}

void release_worker(int release_fd) noexcept {
  // Without a reader, as when the worker has begun: EPIPE, the servers ignore the signal.
  const char go = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(release_fd, &go, 1);
}

serialization::exited exit_message(std::uint64_t id, const exit_info& info) noexcept {
  return {id,
          info.pid,
          info.status,
          info.known,
          info.max_rss_bytes,
          static_cast<std::uint64_t>(info.user_time.count()),
          static_cast<std::uint64_t>(info.system_time.count())};
}

CAROM_START_PATH void run_worker(const server_context& context, int channel_fd,
                                 int release_fd) noexcept {
  ::setpgid(0, 0);
  worker_signals();
  ::prctl(PR_SET_NAME, worker_name);
  constexpr int worker_channel = first_fd;
  static_assert(host_fd == worker_channel + 1 && mark_fd < first_handle_fd);
  const int release = lift(release_fd, mark_fd + 1);
  if (channel_fd != worker_channel) ::dup3(channel_fd, worker_channel, O_CLOEXEC);
  keep_only(worker_channel, host_fd, release, context.handle_fds);
  if (unique_fd own = open_pidfd(::getpid()); own.get() == mark_fd)
    own.release();
  else if (own)
    ::dup3(own.get(), mark_fd, O_CLOEXEC);
  if (context.descriptor_limit.rlim_max != 0) ::setrlimit(RLIMIT_NOFILE, &context.descriptor_limit);
  char go = 0;
  ssize_t got;
  do got = ::read(release, &go, 1);
  while (got < 0 && errno == EINTR);
  if (got != 1) ::_exit(0);
  ::close(release);
  own_process::set_parent_pidfd(context.host, host_fd);
  context.hooks.run(channel{unique_fd{worker_channel}});
  // Its servers end what it leaves behind, but not where both that were above it have died.
  end_children();
  ::_exit(0);
}

}  // namespace carom::runtime

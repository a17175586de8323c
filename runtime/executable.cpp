// SPDX-License-Identifier: BSL-1.0
#include "runtime/executable.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <carom/errors.hpp>
#include <carom/process.hpp>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <system_error>

#include "runtime/fork_server_process.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/segment.hpp"
#include "serialization/worker_messages.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

constexpr int channel_fd = STDERR_FILENO + 1;
constexpr int ticket_fd = host_fd + 1;
constexpr int above_all = ticket_fd + 1;

struct ticket {
  std::uint64_t magic = 0;
  std::int32_t pid = 0;
  std::int32_t version = 0;
};
constexpr std::uint64_t ticket_magic = 0x6e77617073'6d6f72;
constexpr std::int32_t ticket_version = 1;

struct program {
  std::mutex mutex;
  bool has_init = false;
  std::shared_ptr<unique_fd> binary;
  std::string name;
  /// The binary that is known to call carom::init.
  std::shared_ptr<unique_fd> proved;
};

void do_nothing() {}

/// A forked copy, whose descriptors the fork server has closed, opens its program again.
program& own_program() {
  struct owned {
    pid_t owner = ::getpid();
    program it;
  };
  static std::atomic<owned*> current{new owned};
  owned* found = current.load(std::memory_order_acquire);
  while (found->owner != ::getpid()) {
    auto* fresh = new owned;
    fresh->it.has_init = found->it.has_init;
    if (current.compare_exchange_strong(found, fresh, std::memory_order_acq_rel))
      found = fresh;
    else
      delete fresh;
  }
  return found->it;
}

unique_fd open_binary(const char* path) {
  unique_fd binary(::open(path, O_PATH | O_CLOEXEC));
  if (!binary) throw std::system_error(errno, std::system_category(), path);
  return binary;
}

std::string link_target(const char* path) {
  std::array<char, 4096> target{};
  const auto length = ::readlink(path, target.data(), target.size() - 1);
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : path;
}

/// What is to be run, and as what; opened where it is not yet.
std::pair<std::shared_ptr<unique_fd>, std::string> program_to_run() {
  auto& own = own_program();
  std::lock_guard lock(own.mutex);
  if (!own.binary) {
    if (!own.has_init)
      throw start_method_error(
          "start_method::spawn runs this program anew, and it would not know what for: write "
          "carom::init(argc, argv) as the first line of main");
    own.binary = std::make_shared<unique_fd>(open_binary("/proc/self/exe"));
    own.name = link_target("/proc/self/exe");
  }
  return {own.binary, own.name};
}

int lift(int fd) { return ::fcntl(fd, F_DUPFD_CLOEXEC, above_all); }

[[noreturn]] void fail(const char* name) {
  ::dprintf(STDERR_FILENO, "carom: cannot run %s: %s\n", name, ::strerror(errno));
  ::_exit(127);
}

}  // namespace

void open_own_executable() {
  auto& own = own_program();
  {
    std::lock_guard lock(own.mutex);
    own.has_init = true;
  }
  program_to_run();
}

void set_executable(const std::string& path) {
  unique_fd binary = open_binary(path.c_str());
  struct stat status {};
  if (::fstat(binary.get(), &status) == 0 && !S_ISREG(status.st_mode))
    errno = EISDIR;
  else
    errno = ::access(path.c_str(), X_OK) == 0 ? 0 : errno;
  if (errno != 0) throw std::system_error(errno, std::system_category(), path);
  auto& own = own_program();
  std::lock_guard lock(own.mutex);
  own.binary = std::make_shared<unique_fd>(std::move(binary));
  own.name = path;
}

void require_executable() { program_to_run(); }

void check_executable(std::chrono::nanoseconds timeout) {
  const auto tried = program_to_run().first;
  auto& own = own_program();
  {
    std::lock_guard lock(own.mutex);
    if (own.proved == tried) return;
  }
  if (on_loop_thread()) return;  // which cannot wait for it
  try {
    process probe({.name = "probe", .start_method = start_method::spawn, .start_timeout = timeout},
                  &do_nothing);
    probe.start();
    probe.join();
  } catch (const unknown_task&) {
    // It has called init, and is another build: what it has, the tasks will tell.
  }
  std::lock_guard lock(own.mutex);
  own.proved = tried;
}

unique_fd write_launch(unique_fd worker_end) {
  const auto [binary, name] = program_to_run();
  auto [ours, theirs] = channel::make_pair();
  const int fds[] = {binary->get(), worker_end.get()};
  if (const auto error =
          ours.send(pack_message(worker_message_kind::exec, exec_message{name}), fds))
    throw std::system_error(error);
  return theirs.release();
}

void run_launch(message launch) noexcept {
  std::string name = "?";
  try {
    name = unpack_message<exec_message>(launch.bytes).name;
  } catch (const std::exception&) {
    ::_exit(1);
  }
  if (launch.fds.size() != 2) ::_exit(1);
  const int binary = lift(launch.fds[0].get());
  const int channel = lift(launch.fds[1].get());
  const ticket own{ticket_magic, ::getpid(), ticket_version};
  const unique_fd memory(::memfd_create("carom-child", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (::write(memory.get(), &own, sizeof own) != sizeof own ||
      ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
    fail(name.c_str());
  const int written = lift(memory.get());
  // Not close-on-exec, for this one exec.
  if (::dup2(channel, channel_fd) < 0 || ::dup2(written, ticket_fd) < 0 ||
      ::fcntl(host_fd, F_SETFD, 0) < 0)
    fail(name.c_str());
  char* const arguments[] = {name.data(), nullptr};
  ::fexecve(binary, arguments, environ);
  fail(name.c_str());
}

channel take_launched_channel() noexcept {
  constexpr int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(ticket_fd, F_GET_SEALS) != seals) return {};
  ticket found;
  if (::pread(ticket_fd, &found, sizeof found, 0) != sizeof found) return {};
  if (found.magic != ticket_magic || found.version != ticket_version || found.pid != ::getpid())
    return {};
  ::close(ticket_fd);
  ::fcntl(channel_fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(host_fd, F_SETFD, FD_CLOEXEC);
  ::prctl(PR_SET_NAME, "carom-worker");
  own_process::set_parent_pidfd(pid_behind(::getpid(), host_fd), host_fd);
  return channel{unique_fd{channel_fd}};
}

}  // namespace carom::runtime

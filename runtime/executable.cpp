// SPDX-License-Identifier: BSL-1.0
#include "runtime/executable.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <carom/errors.hpp>
#include <carom/process.hpp>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>

#include "runtime/above_stdio.hpp"
#include "runtime/child_process.hpp"
#include "runtime/fork_server_process.hpp"
#include "runtime/handle_fd.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/memfd.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"
#include "serialization/worker_messages.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

constexpr int channel_fd = STDERR_FILENO + 1;
constexpr int ticket_fd = host_fd + 1;
constexpr int above_all = ticket_fd + 1;
constexpr int unrecognised_exit = 126;

struct ticket {
  std::uint64_t magic = 0;
  std::int32_t pid = 0;
  std::int32_t version = 0;
};
constexpr std::uint64_t ticket_magic = 0x6e77617073'6d6f72;
constexpr std::int32_t ticket_version = 1;

/// Tells a child of spawn, by its process id, that it is one: if it comes to `init` without what it
/// has been given, it must not go on to do what the program does when nobody has spawned it.
constexpr const char* mark_of_child = "CAROM_SPAWNED_PROCESS";

struct program {
  std::mutex mutex;
  bool has_init = false;
  /// What this program has closed, as closefrom(3) does, is opened again.
  std::shared_ptr<handle_fd> binary;
  std::string name;
  bool is_own = false;  ///< not of set_executable
  /// The binary that is known to call carom::init.
  std::shared_ptr<handle_fd> proved;
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
  unique_fd binary = try_above_stdio(unique_fd(::open(path, O_PATH | O_CLOEXEC)));
  if (!binary) throw std::system_error(errno, std::system_category(), path);
  return binary;
}

unique_fd open_own_binary() {
  try {
    return open_binary("/proc/self/exe");
  } catch (const std::system_error& e) {
    throw start_method_error("start_method::spawn finds this program by /proc: " +
                             std::string(e.what()));
  }
}

/// Of what runs by an interpreter the kernel would hand that a descriptor that is closed by then.
bool is_script(const char* path) {
  const unique_fd file(::open(path, O_RDONLY | O_CLOEXEC));
  std::array<char, 2> begin{};
  return ::read(file.get(), begin.data(), begin.size()) == 2 && begin[0] == '#' && begin[1] == '!';
}

std::string link_target(const char* path) {
  std::array<char, 4096> target{};
  const auto length = ::readlink(path, target.data(), target.size() - 1);
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : path;
}

/// What is to be run, and as what; opened where it is not yet.
std::pair<std::shared_ptr<handle_fd>, std::string> program_to_run() {
  auto& own = own_program();
  std::lock_guard lock(own.mutex);
  if (own.binary && !own.binary->intact())
    own.binary =
        std::make_shared<handle_fd>(own.is_own ? open_own_binary() : open_binary(own.name.c_str()));
  if (!own.binary) {
    if (!own.has_init)
      throw start_method_error(
          "start_method::spawn runs this program anew, and it would not know what for: write "
          "carom::init(argc, argv) as the first line of main");
    own.binary = std::make_shared<handle_fd>(open_own_binary());
    own.name = link_target("/proc/self/exe");
    own.is_own = true;
  }
  return {own.binary, own.name};
}

int lift(int fd) { return ::fcntl(fd, F_DUPFD_CLOEXEC, above_all); }

/// Whether this process is marked as a child of spawn; what it starts shall not be.
bool take_mark() noexcept {
  const char* const mark = ::getenv(mark_of_child);
  if (!mark) return false;
  const bool is_this = std::atol(mark) == ::getpid();
  ::unsetenv(mark_of_child);
  return is_this;
}

bool has_ticket() noexcept {
  // Kernels add seals of their own, as F_SEAL_EXEC (vm.memfd_noexec).
  constexpr int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  const int has = ::fcntl(ticket_fd, F_GET_SEALS);
  ticket found;
  return has >= 0 && (has & seals) == seals &&
         ::pread(ticket_fd, &found, sizeof found, 0) == sizeof found &&
         found.magic == ticket_magic && found.version == ticket_version && found.pid == ::getpid();
}

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
  try {
    program_to_run();
  } catch (const start_method_error&) {
    // Where there is no /proc. Who never spawns need not know.
  }
}

void set_executable(const std::string& path) {
  unique_fd binary = open_binary(path.c_str());
  struct stat status {};
  if (::fstat(binary.get(), &status) == 0 && !S_ISREG(status.st_mode))
    errno = EISDIR;
  else
    errno = ::access(path.c_str(), X_OK) == 0 ? 0 : errno;
  if (errno != 0) throw std::system_error(errno, std::system_category(), path);
  if (is_script(path.c_str()))
    throw std::system_error(ENOEXEC, std::system_category(),
                            path + " is a script (#!): set_executable needs the program itself");
  auto& own = own_program();
  std::lock_guard lock(own.mutex);
  own.binary = std::make_shared<handle_fd>(std::move(binary));
  own.name = path;
  own.is_own = false;
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
    const auto probe = std::make_shared<child_process>(
        call(&do_nothing),
        process_options{
            .name = "probe", .start_method = start_method::spawn, .start_timeout = timeout});
    probe->make_probe();
    probe->start();
    probe->join(std::nullopt);
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
  const unique_fd memory = make_memfd("carom-child");
  if (::write(memory.get(), &own, sizeof own) != sizeof own ||
      ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
    fail(name.c_str());
  const int written = lift(memory.get());
  // Not close-on-exec, for this one exec.
  if (::dup2(channel, channel_fd) < 0 || ::dup2(written, ticket_fd) < 0 ||
      ::fcntl(host_fd, F_SETFD, 0) < 0)
    fail(name.c_str());
  if (::setenv(mark_of_child, std::to_string(::getpid()).c_str(), 1) != 0) fail(name.c_str());
  char* const arguments[] = {name.data(), nullptr};
  ::fexecve(binary, arguments, environ);
  fail(name.c_str());
}

channel take_launched_channel() noexcept {
  const bool is_child = take_mark();
  if (!has_ticket()) {
    if (!is_child) return {};
    ::dprintf(STDERR_FILENO,
              "carom: this process was made by start_method::spawn, but carom::init does not find "
              "the descriptors that it was given: nothing may close them before carom::init, which "
              "belongs into the first line of main\n");
    ::_exit(unrecognised_exit);
  }
  ::close(ticket_fd);
  ::fcntl(channel_fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(host_fd, F_SETFD, FD_CLOEXEC);
  ::prctl(PR_SET_NAME, "carom-worker");
  own_process::set_parent_pidfd(pid_behind(::getpid(), host_fd), host_fd);
  return channel{unique_fd{channel_fd}};
}

}  // namespace carom::runtime

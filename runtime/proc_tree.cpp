// SPDX-License-Identifier: BSL-1.0
#include "runtime/proc_tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "runtime/pidfd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

namespace {

std::string read_all(int file) {
  // Not on the stack: a page of that would be copied after each fork. In large pieces: what changes
  // between two of them may be missed.
  constexpr std::size_t piece = 4096;
  const auto part = std::make_unique_for_overwrite<char[]>(piece);
  std::string text;
  for (ssize_t got; (got = ::read(file, part.get(), piece)) > 0;)
    text.append(part.get(), static_cast<std::size_t>(got));
  return text;
}

std::optional<std::string> read_file(const std::string& path) {
  const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) return std::nullopt;
  return read_all(file.get());
}

/// Calls `visit` with every entry of a directory whose name is a number; false where the directory
/// is missing.
template <class Visit>
bool each_number_in(const std::string& directory, Visit visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream{::opendir(directory.c_str()), &::closedir};
  if (!stream) return false;
  while (const dirent* entry = ::readdir(stream.get())) {
    pid_t number = 0;
    const char* const end = entry->d_name + std::strlen(entry->d_name);
    if (const auto [rest, error] = std::from_chars(entry->d_name, end, number);
        error == std::errc{} && rest == end)
      visit(number);
  }
  return true;
}

void append_numbers(std::string_view text, std::vector<pid_t>& into) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    pid_t number = 0;
    const auto [rest, error] = std::from_chars(at, end, number);
    if (error == std::errc{}) into.push_back(number);
    at = rest == end ? end : rest + 1;
  }
}

std::optional<proc_entry> read_entry(const std::string& path, pid_t pid) {
  const auto text = read_file(path);
  if (!text) return std::nullopt;
  // The name in parentheses may hold anything, also parentheses.
  const std::size_t name_end = text->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  proc_entry entry;
  entry.pid = pid;
  const char* const fields = text->c_str() + name_end + 1;
  if (std::sscanf(fields, " %c %d %d", &entry.state, &entry.parent, &entry.group) != 3)
    return std::nullopt;
  // The exit code is the line's last field.
  if (const std::size_t last = text->find_last_of(' ');
      last != std::string::npos && last > name_end)
    entry.exit_code = std::atoi(text->c_str() + last);
  return entry;
}

/// The most restless thread's state: 'T' when all are stopped or gone, 'D' when others wait in the
/// kernel for what no signal interrupts, else 'R'.
char restlessness(pid_t pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  char worst = 'T';
  each_number_in(tasks, [&](pid_t thread) {
    const auto entry = read_entry(tasks + "/" + std::to_string(thread) + "/stat", thread);
    if (!entry || entry->is_zombie() || entry->state == 'T' || entry->state == 't') return;
    if (entry->state != 'D')
      worst = 'R';
    else if (worst == 'T')
      worst = 'D';
  });
  return worst;
}

/// How long stopped processes may take to come to rest: one that runs stops when it is its turn,
/// one that waits for a disk, or for the exec of a vforked child we have stopped, perhaps never.
constexpr auto patience_with_running = std::chrono::seconds{2};
constexpr auto patience_with_waiting = std::chrono::milliseconds{50};

/// For kernels built without CONFIG_PROC_CHILDREN.
std::vector<pid_t> scan_for_children(pid_t parent) {
  std::vector<pid_t> found;
  each_number_in("/proc", [&](pid_t pid) {
    if (const auto entry = proc_entry::read(pid); entry && entry->parent == parent)
      found.push_back(pid);
  });
  return found;
}

}  // namespace

std::optional<proc_entry> proc_entry::read(pid_t pid) noexcept try {
  return read_entry("/proc/" + std::to_string(pid) + "/stat", pid);
} catch (const std::bad_alloc&) {
  return std::nullopt;
}

std::vector<pid_t> children_of(pid_t parent) {
  const std::string tasks = "/proc/" + std::to_string(parent) + "/task";
  std::vector<pid_t> found;
  bool told = true;
  const bool exists = each_number_in(tasks, [&](pid_t thread) {
    const auto text = read_file(tasks + "/" + std::to_string(thread) + "/children");
    // A thread may end between the two looks: only the file of one that lives says what the kernel
    // offers.
    if (text)
      append_numbers(*text, found);
    else if (::access((tasks + "/" + std::to_string(thread) + "/stat").c_str(), F_OK) == 0)
      told = false;
  });
  return exists && !told ? scan_for_children(parent) : found;
}

std::optional<std::vector<pid_t>> read_children(int file) {
  std::vector<pid_t> found;
  // Mostly there are few, and the fork server asks behind each fork, when fresh memory is dear.
  std::array<char, 256> few;
  const ssize_t got = ::pread(file, few.data(), few.size(), 0);
  if (got < 0) return std::nullopt;
  const auto length = static_cast<std::size_t>(got);
  if (length < few.size()) {
    append_numbers({few.data(), length}, found);
  } else {
    if (::lseek(file, 0, SEEK_SET) != 0) return std::nullopt;
    append_numbers(read_all(file), found);
  }
  return found;
}

pid_t pid_behind(pid_t owner, int fd) noexcept try {
  const auto text = read_file("/proc/" + std::to_string(owner) + "/fdinfo/" + std::to_string(fd));
  if (!text) return 0;
  const std::size_t at = text->find("\nPid:");
  return at == std::string::npos ? 0 : std::atoi(text->c_str() + at + 5);
} catch (const std::bad_alloc&) {
  return 0;
}

std::vector<pid_t> holders_of(pid_t named, int fd) {
  std::vector<pid_t> found;
  each_number_in("/proc", [&](pid_t pid) {
    if (pid_behind(pid, fd) == named) found.push_back(pid);
  });
  return found;
}

namespace {

/// SIGKILLs each process but this one that `is_meant` twice, the second time with its pidfd open.
template <class Predicate>
void kill_each(Predicate is_meant) {
  std::unordered_set<pid_t> killed;
  // One that forks while it is killed leaves children that the next look finds.
  for (bool more = true; std::exchange(more, false);) {
    each_number_in("/proc", [&](pid_t pid) {
      if (pid == ::getpid() || killed.contains(pid) || !is_meant(pid)) return;
      const unique_fd pidfd = open_pidfd(pid);
      if (!pidfd || !is_meant(pid)) return;
      signal_process(pidfd.get(), SIGKILL);
      killed.insert(pid);
      more = true;
    });
  }
}

}  // namespace

void kill_holders(pid_t named, int fd) {
  kill_each([&](pid_t pid) { return pid_behind(pid, fd) == named; });
}

std::optional<bool> shares_file(pid_t pid, int fd) noexcept {
  constexpr int of_files = 0;  // KCMP_FILE
  const long order = ::syscall(SYS_kcmp, ::getpid(), pid, of_files, fd, fd);
  if (order < 0 && errno == ENOSYS) return std::nullopt;
  return order == 0;
}

void kill_sharers(int fd, pid_t spared) {
  const pid_t named = pid_behind(::getpid(), fd);
  // A process that lives may have others like us, which hold a pidfd of their own.
  const bool ended = has_ended(fd);
  kill_each([&](pid_t pid) {
    // The one it names may have it too, if it has just handed it over.
    if (pid == spared || pid == named) return false;
    const bool names_it = named > 0 && pid_behind(pid, fd) == named;
    return names_it ? ended || shares_file(pid, fd) != false
                    : named <= 0 && shares_file(pid, fd) == true;
  });
}

int count_threads() noexcept try {
  int count = 0;
  each_number_in("/proc/self/task", [&](pid_t) { ++count; });
  return count;
} catch (const std::bad_alloc&) {
  return 0;
}

void kill_child(pid_t child) noexcept {
  if (::getpgid(child) == child) ::kill(-child, SIGKILL);
  ::kill(child, SIGKILL);
}

void end_children() {
  for (;;) {
    for (const pid_t child : children_of(::getpid())) kill_child(child);
    siginfo_t info;
    if (::waitid(P_ALL, 0, &info, WEXITED) != 0 && errno == ECHILD) return;
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}

void kill_tree(pid_t root, int root_pidfd) {
  using clock = std::chrono::steady_clock;
  struct member {
    pid_t pid;
    int pidfd;
    bool ended = false;
  };
  std::unordered_map<pid_t, unique_fd> descendants;
  std::vector<member> members{{root, root_pidfd}};
  signal_process(root_pidfd, SIGSTOP);
  const auto stop_children_of = [&](pid_t parent, int parent_pidfd) {
    for (const pid_t pid : children_of(parent)) {
      if (descendants.contains(pid)) continue;
      unique_fd pidfd = open_pidfd(pid);
      if (!pidfd) continue;
      // Seen as the parent's child after it was opened, and the parent seen unreaped after that:
      // both numbers meant whom we think.
      const auto entry = proc_entry::read(pid);
      if (!entry || entry->parent != parent || signal_process(parent_pidfd, 0) != 0) continue;
      signal_process(pidfd.get(), SIGSTOP);
      members.push_back({pid, pidfd.get()});
      descendants.emplace(pid, std::move(pidfd));
    }
  };
  auto last_progress = clock::now();
  std::vector<pid_t> restless_before;
  // Others may kill what we have stopped: its children then go to a subreaper which may have been
  // looked at already. Only a look at all of them in which none is new and none ends has seen all.
  for (bool all_seen = false; !all_seen;) {
    auto patience = clock::duration::zero();
    std::vector<pid_t> restless;
    bool changed = false;
    for (std::size_t i = 0; i != members.size(); ++i) {
      const auto [pid, pidfd, ended] = members[i];
      if (ended) continue;
      // A fork that was under way when its process was told to stop still completes: only a look
      // after it has come to rest shows all there will ever be.
      const char state = restlessness(pid);
      const std::size_t known = members.size();
      stop_children_of(pid, pidfd);
      changed = changed || members.size() != known;
      if (state == 'T') continue;
      restless.push_back(pid);
      patience = std::max<clock::duration>(
          patience, state == 'R' ? clock::duration{patience_with_running} : patience_with_waiting);
    }
    for (member& each : members)
      if (!each.ended && has_ended(each.pidfd)) changed = each.ended = true;
    all_seen = !changed && restless.empty();
    if (changed || restless != restless_before)
      last_progress = clock::now();
    else if (!all_seen && clock::now() - last_progress >= patience)
      break;
    if (!restless.empty()) ::usleep(200);
    restless_before = std::move(restless);
  }
  signal_process(root_pidfd, SIGKILL);
  for (const auto& [pid, pidfd] : descendants) signal_process(pidfd.get(), SIGKILL);
}

}  // namespace carom::runtime

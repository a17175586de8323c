// SPDX-License-Identifier: BSL-1.0
#include "runtime/proc_tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "runtime/pidfd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

namespace {

std::optional<std::string> read_file(const std::string& path) {
  const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) return std::nullopt;
  std::string text;
  char part[4096];
  for (ssize_t got; (got = ::read(file.get(), part, sizeof part)) > 0;)
    text.append(part, static_cast<std::size_t>(got));
  return text;
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

void append_numbers(const std::string& text, std::vector<pid_t>& into) {
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

/// Whether every thread of a process is stopped or gone, so that none is within a system call.
bool is_at_rest(pid_t pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  bool resting = true;
  each_number_in(tasks, [&](pid_t thread) {
    const auto entry = read_entry(tasks + "/" + std::to_string(thread) + "/stat", thread);
    if (entry && entry->state != 'T' && entry->state != 't' && !entry->is_zombie()) resting = false;
  });
  return resting;
}

/// How long a process may take to stop; one that waits in the kernel, for a disk say, forks
/// nothing.
constexpr auto patience_with_unstoppable = std::chrono::milliseconds{100};

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
  std::unordered_map<pid_t, unique_fd> descendants;
  signal_process(root_pidfd, SIGSTOP);
  const auto stop_children_of = [&](pid_t parent, int parent_pidfd) {
    bool found = false;
    for (const pid_t pid : children_of(parent)) {
      if (descendants.contains(pid)) continue;
      unique_fd pidfd = open_pidfd(pid);
      if (!pidfd) continue;
      // Seen as the parent's child after it was opened, and the parent seen unreaped after that:
      // both numbers meant whom we think.
      const auto entry = proc_entry::read(pid);
      if (!entry || entry->parent != parent || signal_process(parent_pidfd, 0) != 0) continue;
      signal_process(pidfd.get(), SIGSTOP);
      descendants.emplace(pid, std::move(pidfd));
      found = true;
    }
    return found;
  };
  const auto deadline = std::chrono::steady_clock::now() + patience_with_unstoppable;
  for (bool complete = false; !complete;) {
    std::vector<std::pair<pid_t, int>> parents{{root, root_pidfd}};
    for (const auto& [pid, pidfd] : descendants) parents.emplace_back(pid, pidfd.get());
    // A fork that was under way when its process was told to stop still completes. Where all had
    // come to rest before a look that finds nothing new, there is nothing more.
    const bool resting =
        std::ranges::all_of(parents, [](const auto& parent) { return is_at_rest(parent.first); });
    bool found = false;
    for (const auto& [pid, pidfd] : parents) found |= stop_children_of(pid, pidfd);
    complete = !found && (resting || std::chrono::steady_clock::now() > deadline);
    if (!complete) ::sched_yield();
  }
  signal_process(root_pidfd, SIGKILL);
  for (const auto& [pid, pidfd] : descendants) signal_process(pidfd.get(), SIGKILL);
}

}  // namespace carom::runtime

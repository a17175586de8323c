// SPDX-License-Identifier: BSL-1.0
#include "tests/support/processes.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

namespace carom::test {
namespace {

namespace fs = std::filesystem;

std::string proc(pid_t pid, const char* file) {
  return "/proc/" + std::to_string(pid) + '/' + file;
}

std::string marker_of(pid_t founder) { return "carom-test-family-" + std::to_string(founder); }

// Entries may vanish while they are listed.
template <class Visit>
void each_entry(const std::string& directory, Visit visit) {
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    visit(it->path().filename().native());
}

std::size_t count_entries(const std::string& directory) {
  std::size_t count = 0;
  each_entry(directory, [&](const std::string&) { ++count; });
  return count;
}

template <class Visit>
void each_line(const std::string& path, Visit visit) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) visit(line);
}

std::uint64_t field(const std::string& line) {
  std::uint64_t value = 0;
  const auto digit =
      std::find_if(line.begin(), line.end(), [](char c) { return c >= '0' && c <= '9'; });
  std::from_chars(line.data() + (digit - line.begin()), line.data() + line.size(), value);
  return value;
}

}  // namespace

std::optional<process_status> status_of(pid_t pid) {
  std::ifstream file(proc(pid, "stat"));
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  process_status status{.pid = pid};
  std::istringstream rest(line.substr(line.rfind(')') + 1));  // the name may hold anything
  rest >> status.state >> status.parent >> status.group >> status.session;
  return status;
}

std::vector<process_status> all_processes() {
  std::vector<process_status> all;
  each_entry("/proc", [&](const std::string& name) {
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc{} || *end) return;
    if (const auto status = status_of(pid)) all.push_back(*status);
  });
  return all;
}

void found_family() {
  const int fd = ::memfd_create(marker_of(::getpid()).c_str(), MFD_CLOEXEC);
  const long size = ::sysconf(_SC_PAGESIZE);
  if (fd < 0 || ::ftruncate(fd, size) != 0 ||
      ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "found_family");
  ::close(fd);
}

bool is_of_family(pid_t founder, pid_t pid) {
  const std::string marker = "/memfd:" + marker_of(founder) + " (deleted)";
  bool marked = false;
  each_line(proc(pid, "maps"),
            [&](const std::string& line) { marked = marked || line.ends_with(marker); });
  return marked;
}

std::vector<pid_t> family_of(pid_t founder) {
  std::vector<pid_t> family;
  for (const process_status& each : all_processes())
    if (each.pid != founder && is_of_family(founder, each.pid)) family.push_back(each.pid);
  return family;
}

server_pids fork_servers_of(pid_t founder) {
  std::vector<process_status> leaders;  // the servers lead their own sessions, workers do not
  for (const pid_t pid : family_of(founder))
    if (const auto status = status_of(pid); status && status->session == pid)
      leaders.push_back(*status);
  server_pids servers;
  for (const process_status& each : leaders) {
    const bool below_other = std::ranges::any_of(
        leaders, [&](const process_status& other) { return other.pid == each.parent; });
    (below_other ? servers.forker : servers.keeper) = each.pid;
  }
  return servers;
}

std::vector<pid_t> own_children() {
  std::vector<pid_t> children;
  for (const process_status& each : all_processes())
    if (each.parent == ::getpid()) children.push_back(each.pid);
  return children;
}

std::size_t open_descriptors(pid_t pid) {
  const std::size_t listed = count_entries(proc(pid, "fd"));
  return pid == ::getpid() && listed ? listed - 1 : listed;  // the one that lists
}

std::size_t threads_of(pid_t pid) { return count_entries(proc(pid, "task")); }

std::size_t shared_mappings(pid_t pid) {
  std::size_t count = 0;
  each_line(proc(pid, "maps"), [&](const std::string& line) {
    const auto flags = line.find(' ');
    count += flags != std::string::npos && line.size() > flags + 4 && line[flags + 4] == 's';
  });
  return count;
}

std::uint64_t resident_bytes(pid_t pid) {
  std::uint64_t kib = 0;
  each_line(proc(pid, "status"), [&](const std::string& line) {
    if (line.starts_with("RssAnon:") || line.starts_with("RssShmem:")) kib += field(line);
  });
  return kib * 1024;
}

std::uint64_t context_switches(pid_t pid, pid_t except_thread) {
  std::uint64_t switches = 0;
  each_entry(proc(pid, "task"), [&](const std::string& thread) {
    if (thread == std::to_string(except_thread)) return;
    each_line("/proc/" + std::to_string(pid) + "/task/" + thread + "/status",
              [&](const std::string& line) {
                if (line.starts_with("voluntary_ctxt_switches:") ||
                    line.starts_with("nonvoluntary_ctxt_switches:"))
                  switches += field(line);
              });
  });
  return switches;
}

bool signal_family(pid_t founder, pid_t pid, int signal) {
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) return false;
  // Looked at only now: what the number names while the pidfd's process lives is that process.
  const bool sent = is_of_family(founder, pid) &&
                    ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0;
  ::close(pidfd);
  return sent;
}

}  // namespace carom::test

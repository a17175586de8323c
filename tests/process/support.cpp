// SPDX-License-Identifier: BSL-1.0
#include "tests/process/support.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <system_error>

namespace carom::test {

pipe_ends::pipe_ends() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
  read.reset(ends[0]);
  write.reset(ends[1]);
}

void write_line(int fd, const std::string& line) {
  const std::string whole = line + "\n";
  if (::write(fd, whole.data(), whole.size()) != static_cast<ssize_t>(whole.size())) ::_exit(99);
}

std::string read_all(int fd) {
  std::string text;
  char part[4096];
  for (ssize_t got; (got = ::read(fd, part, sizeof part)) > 0;)
    text.append(part, static_cast<std::size_t>(got));
  return text;
}

std::string read_line(int fd) {
  std::string line;
  char next = 0;
  pollfd waited{fd, POLLIN, 0};
  while (::poll(&waited, 1, 30'000) > 0 && ::read(fd, &next, 1) == 1 && next != '\n') line += next;
  return line;
}

pid_t pid_on_board(unsigned slot) {
  return board::wait(slot) ? static_cast<pid_t>(board::get(slot)) : 0;
}

bool is_running(pid_t pid) {
  const auto status = status_of(pid);
  return status && status->state != 'Z' && status->state != 'X';
}

server_pids servers_of_host(pid_t host) {
  server_pids found;
  for (const auto& each : all_processes()) {
    // Every server holds its host's pidfd at this number.
    const std::string proc = "/proc/" + std::to_string(each.pid);
    std::ifstream info(proc + "/fdinfo/4");
    pid_t named = 0;
    for (std::string word; info >> word;)
      if (word == "Pid:") info >> named;
    if (named != host) continue;
    std::string name;
    std::ifstream(proc + "/comm") >> name;
    if (name == "carom-keeper") found.keeper = each.pid;
    if (name == "carom-forker") found.forker = each.pid;
  }
  return found;
}

bool gone_within_a_second(const std::vector<pid_t>& pids) {
  return eventually([&] { return std::ranges::none_of(pids, is_running); },
                    std::chrono::seconds(1) * slowness);
}

bool is_among(const process& one, const std::vector<process_handle>& all) {
  return std::ranges::find(all, static_cast<const process_handle&>(one)) != all.end();
}

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#include "proc_files.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace bench {

namespace {

std::string path_of(pid_t pid, const std::string& file) {
  return "/proc/" + std::to_string(pid) + "/" + file;
}

/// The sum of the numbers in lines that begin with one of `labels`.
std::uint64_t sum_of(const std::string& path, std::initializer_list<std::string_view> labels) {
  std::ifstream in(path);
  std::uint64_t sum = 0;
  bool found = false;
  for (std::string line; std::getline(in, line);)
    for (const std::string_view label : labels)
      if (line.starts_with(label)) {
        sum += std::stoull(line.substr(label.size()));
        found = true;
      }
  if (!found) throw std::runtime_error("cannot read " + path);
  return sum;
}

/// The names in a directory of /proc that are numbers.
std::vector<pid_t> numbers_in(const std::string& directory) {
  std::vector<pid_t> numbers;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator(directory, gone)) {
    const std::string name = entry.path().filename();
    pid_t number = 0;
    const auto end = std::from_chars(name.data(), name.data() + name.size(), number);
    if (end.ptr == name.data() + name.size()) numbers.push_back(number);
  }
  return numbers;
}

}  // namespace

pid_t parent_of(pid_t pid) { return static_cast<pid_t>(sum_of(path_of(pid, "status"), {"PPid:"})); }

std::vector<pid_t> descendants_of(pid_t pid) {
  std::vector<std::pair<pid_t, pid_t>> parents;
  for (const pid_t each : numbers_in("/proc")) try {
      parents.emplace_back(each, parent_of(each));
    } catch (const std::runtime_error&) {  // it ended meanwhile
    }
  std::vector<pid_t> found;
  std::vector<pid_t> open{pid};
  while (!open.empty()) {
    const pid_t above = open.back();
    open.pop_back();
    for (const auto& [child, parent] : parents)
      if (parent == above) {
        found.push_back(child);
        open.push_back(child);
      }
  }
  return found;
}

double proportional_size(pid_t pid) {
  return static_cast<double>(sum_of(path_of(pid, "smaps_rollup"), {"Pss:"})) * 1024;
}

double resident_size(pid_t pid) {
  return static_cast<double>(sum_of(path_of(pid, "status"), {"VmRSS:"})) * 1024;
}

std::uint64_t context_switches(pid_t pid, pid_t except) {
  std::uint64_t sum = 0;
  for (const pid_t thread : numbers_in(path_of(pid, "task")))
    if (thread != except)
      sum += sum_of(path_of(pid, "task/" + std::to_string(thread) + "/status"),
                    {"voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"});
  return sum;
}

}  // namespace bench

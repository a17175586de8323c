// SPDX-License-Identifier: BSL-1.0
// A large table that is loaded once, in the fork server, and shared by all workers: what each of
// them really weighs.
//
//   preload [MiB]
#include <unistd.h>

#include <carom/carom.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr int workers = 8;

std::size_t table_mib = 0;
std::vector<std::uint64_t> table;

/// Runs in the fork server, before there is a worker.
void load_table() {
  table.resize(table_mib * (1 << 20) / sizeof(std::uint64_t));
  std::iota(table.begin(), table.end(), std::uint64_t{1});
}

/// Reads all of it, and changes none of it; says who has done so.
std::pair<pid_t, std::uint64_t> sum_of_table(int) {
  return {::getpid(), std::accumulate(table.begin(), table.end(), std::uint64_t{0})};
}

/// A line of a file of /proc, in KiB; 0 if there is none.
std::uint64_t kib(const std::string& file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string word; lines >> word;)
    if (std::uint64_t value = 0; word == key && lines >> value) return value;
  return 0;
}

/// 1 GiB, where four times as much is free.
std::size_t default_size() {
  const std::uint64_t free_mib = kib("/proc/meminfo", "MemAvailable:") / 1024;
  return std::min<std::size_t>(1024, std::max<std::size_t>(1, free_mib / 4));
}

}  // namespace

int main(int argc, char** argv) {
  table_mib = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : default_size();
  carom::set_forkserver_preload(load_table);
  carom::init(argc, argv);

  const std::uint64_t count = table_mib * (1 << 20) / sizeof(std::uint64_t);
  carom::pool pool{{.processes = workers}};
  std::set<pid_t> readers;
  while (readers.size() != workers)  // each worker has to read it
    for (const auto& [pid, sum] : pool.map(sum_of_table, std::vector<int>(workers), 1)) {
      if (sum != count * (count + 1) / 2) return 1;
      readers.insert(pid);
    }

  std::uint64_t resident = 0, proportional = 0;
  for (const pid_t pid : readers) {
    const std::string file = "/proc/" + std::to_string(pid) + "/smaps_rollup";
    resident += kib(file, "Rss:");
    proportional += kib(file, "Pss:");
  }
  std::cout << "table                            " << table_mib << " MiB, loaded once\n"
            << workers << " workers that have read it, Rss  " << resident / 1024 << " MiB\n"
            << workers << " workers that have read it, Pss  " << proportional / 1024
            << " MiB, as the fork server holds a share too\n"
            << "without sharing                  " << workers * table_mib << " MiB\n";
  // The fork server holds a share too, so less than the table and a little for each worker.
  return proportional / 1024 < table_mib + 16 * workers ? 0 : 1;
}

// SPDX-License-Identifier: BSL-1.0
#include <sched.h>

#include <algorithm>
#include <carom/cpu_count.hpp>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>

namespace carom {
namespace {

int affinity() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0) return CPU_COUNT(&mask);
  return static_cast<int>(std::thread::hardware_concurrency());
}

/// The tightest `cpu.max` from this process's cgroup (version 2) up to the root.
double quota() {
  std::string path;
  {
    std::ifstream own("/proc/self/cgroup");
    for (std::string line; std::getline(own, line);)
      if (line.starts_with("0::")) path = line.substr(3);
  }
  double least = HUGE_VAL;
  for (;;) {
    std::ifstream file("/sys/fs/cgroup" + path + "/cpu.max");
    std::string most;
    double period = 0;
    if (file >> most >> period && most != "max" && period > 0)
      least = std::min(least, std::stod(most) / period);
    const auto slash = path.rfind('/');
    if (path.empty() || slash == std::string::npos) break;
    path.resize(slash);
  }
  return least;
}

}  // namespace

int cpu_count() {
  const double limited = std::min<double>(affinity(), std::ceil(quota()));
  return std::max(1, static_cast<int>(limited));
}

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#include <sched.h>

#include <algorithm>
#include <carom/cpu_count.hpp>
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "runtime/cpu_quota.hpp"

namespace carom {

using runtime::cgroup_version;

namespace {

int affinity() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0) return CPU_COUNT(&mask);
  return static_cast<int>(std::thread::hardware_concurrency());
}

/// Empty where there is none.
std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

double cpus_of(cgroup_version version, const std::string& directory) {
  if (version == cgroup_version::v2) return runtime::cpus_of_max(content(directory + "/cpu.max"));
  return runtime::cpus_of_cfs(content(directory + "/cpu.cfs_quota_us"),
                              content(directory + "/cpu.cfs_period_us"));
}

/// The tightest limit from this process's cgroups up to their roots.
double quota() {
  const std::string cgroup = content("/proc/self/cgroup");
  const std::string mounts = content("/proc/self/mountinfo");
  double least = HUGE_VAL;
  for (const auto version : {cgroup_version::v1, cgroup_version::v2}) {
    auto at = runtime::find_cpu_cgroup(version, cgroup, mounts);
    if (!at) continue;
    for (std::string& below = at->below;; below.resize(below.rfind('/'))) {
      least = std::min(least, cpus_of(version, at->mount + below));
      if (below.find('/') == std::string::npos) break;
    }
  }
  return least;
}

}  // namespace

int cpu_count() {
  const double limited = std::min<double>(affinity(), std::ceil(quota()));
  return std::max(1, static_cast<int>(limited));
}

}  // namespace carom

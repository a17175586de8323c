// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

// What the files of cgroups say of CPU time, in CPUs. Pure: nothing here reads a file.
namespace carom::runtime {

enum class cgroup_version { v1, v2 };

/// Where the files of a cgroup lie.
struct cgroup_place {
  std::string mount;
  std::string below;  ///< empty, or with a slash in front

  bool operator==(const cgroup_place&) const = default;
};

/// Where the cgroup that limits the CPUs of a process is, of what its /proc/<pid>/cgroup and
/// /proc/<pid>/mountinfo say. Nothing if it has none of that version, or sees none.
std::optional<cgroup_place> find_cpu_cgroup(cgroup_version, std::string_view cgroup,
                                            std::string_view mountinfo);

/// What cpu.max says; HUGE_VAL for no limit, and for what is not understood.
double cpus_of_max(std::string_view cpu_max) noexcept;
/// The same of cpu.cfs_quota_us and cpu.cfs_period_us.
double cpus_of_cfs(std::string_view quota, std::string_view period) noexcept;

}  // namespace carom::runtime

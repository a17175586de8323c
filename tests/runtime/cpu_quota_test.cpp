// SPDX-License-Identifier: BSL-1.0
#include "runtime/cpu_quota.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace carom::runtime {
namespace {

using enum cgroup_version;

constexpr const char* mounts_of_v2 =
    "25 1 0:23 / /proc rw - proc proc rw\n"
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* mounts_of_v1 =
    "31 30 0:27 / /sys/fs/cgroup/cpuset rw shared:9 - cgroup cgroup rw,cpuset\n"
    "32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 30 0:29 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";

TEST(CpuQuota, PlaceOfVersion2) {
  EXPECT_EQ(find_cpu_cgroup(v2, "0::/user.slice/one.scope\n", mounts_of_v2),
            (cgroup_place{"/sys/fs/cgroup", "/user.slice/one.scope"}));
  EXPECT_EQ(find_cpu_cgroup(v2, "0::/\n", mounts_of_v2), (cgroup_place{"/sys/fs/cgroup", ""}));
  EXPECT_FALSE(find_cpu_cgroup(v1, "0::/\n", mounts_of_v2));
  EXPECT_FALSE(find_cpu_cgroup(v2, "0::/\n", ""));
}

TEST(CpuQuota, PlaceOfVersion1) {
  const char* const cgroup = "9:cpuset:/other\n4:cpu,cpuacct:/docker/abc\n0::/init.scope\n";
  EXPECT_EQ(find_cpu_cgroup(v1, cgroup, mounts_of_v1),
            (cgroup_place{"/sys/fs/cgroup/cpu,cpuacct", "/docker/abc"}));
  EXPECT_EQ(find_cpu_cgroup(v2, cgroup, mounts_of_v1),
            (cgroup_place{"/sys/fs/cgroup/unified", "/init.scope"}));
  EXPECT_FALSE(find_cpu_cgroup(v1, "9:cpuset:/other\n4:cpuacct:/docker/abc\n", mounts_of_v1));
}

TEST(CpuQuota, PlaceInAContainer) {
  const char* const mounts =
      "32 30 0:28 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
  const std::string mount = "/sys/fs/cgroup/cpu";
  EXPECT_EQ(find_cpu_cgroup(v1, "4:cpu:/docker/abc", mounts), (cgroup_place{mount, ""}));
  EXPECT_EQ(find_cpu_cgroup(v1, "4:cpu:/docker/abc/in", mounts), (cgroup_place{mount, "/in"}));
  EXPECT_EQ(find_cpu_cgroup(v1, "4:cpu:/docker/abcd", mounts), (cgroup_place{mount, ""}));
  EXPECT_EQ(find_cpu_cgroup(v1, "4:cpu:/", mounts), (cgroup_place{mount, ""}));
}

TEST(CpuQuota, PlaceWhoseNameHasASpace) {
  EXPECT_EQ(find_cpu_cgroup(v2, "0::/a", "1 2 0:1 / /my\\040groups rw - cgroup2 none rw"),
            (cgroup_place{"/my groups", "/a"}));
}

TEST(CpuQuota, GarbageIsNoPlace) {
  for (const char* text : {"", ":", "::", "0:", "x", "4:cpu", "\n\n"}) {
    EXPECT_FALSE(find_cpu_cgroup(v1, text, mounts_of_v1)) << text;
    EXPECT_FALSE(find_cpu_cgroup(v2, "0::/a", text)) << text;
  }
  EXPECT_FALSE(find_cpu_cgroup(v2, "0::/a", "1 2 3 - cgroup2 none rw\n1 2 3 / /m rw - cgroup2"));
}

TEST(CpuQuota, Limits) {
  EXPECT_EQ(cpus_of_max("150000 100000\n"), 1.5);
  EXPECT_EQ(cpus_of_max("max 100000\n"), HUGE_VAL);
  EXPECT_EQ(cpus_of_cfs("200000\n", "100000\n"), 2.0);
  EXPECT_EQ(cpus_of_cfs("-1\n", "100000\n"), HUGE_VAL);
  for (const char* text : {"", " ", "max", "1", "1 0", "0 1", "a b"})
    EXPECT_EQ(cpus_of_max(text), HUGE_VAL) << text;
  EXPECT_EQ(cpus_of_cfs("", ""), HUGE_VAL);
  EXPECT_EQ(cpus_of_cfs("100000", "0"), HUGE_VAL);
}

}  // namespace
}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>

namespace carom {

/// How many CPUs this process may use: its affinity mask and the quota of its cgroups
/// (version 1 or 2), at least 1
/// (billiard: cpu_count, which counts the machine's).
CAROM_API int cpu_count();

}  // namespace carom

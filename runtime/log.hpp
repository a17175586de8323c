// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/log.hpp>
#include <string>

namespace carom::runtime {

/// Gives a forked process a logger of its own; the inherited one is not touched.
void restart_log(const std::string& name, int level);
int log_level();

}  // namespace carom::runtime

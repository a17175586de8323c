// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/log.hpp>
#include <functional>
#include <string>
#include <string_view>

namespace carom::runtime {

/// Takes a record somewhere; false if it could not. Called by any thread.
using log_forward = std::function<bool(int level, std::string_view text)>;

/// Gives a forked process a logger of its own; the inherited one is not touched. It writes to
/// stderr what `forward`, if there is one, does not take.
void restart_log(const std::string& name, int level, log_forward forward = {});
int log_level();

}  // namespace carom::runtime

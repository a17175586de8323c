// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <spdlog/logger.h>

#include <carom/export.hpp>
#include <memory>

namespace carom {

/// The library's logger (billiard: get_logger). By default it writes warnings and errors to
/// stderr. In a worker it is a logger made after the fork, never the host's. Thread-safe.
CAROM_API std::shared_ptr<spdlog::logger> log();

/// Makes the library log through the host's own logger; null restores the default. Workers keep
/// their own. Thread-safe.
CAROM_API void set_log(std::shared_ptr<spdlog::logger> logger);

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <carom/export.hpp>
#include <memory>

namespace spdlog {
class logger;
}

/// Asked from inside a worker process.
namespace carom::this_worker {

/// The worker's place in its pool, from 0; -1 outside a worker.
CAROM_API int index() noexcept;
/// The worker's process id; 0 outside a worker.
CAROM_API pid_t pid() noexcept;
/// The logger of this worker: `carom::log()`, whose lines name the worker.
CAROM_API std::shared_ptr<spdlog::logger> log();

}  // namespace carom::this_worker

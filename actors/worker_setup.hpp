// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/pool_options.hpp>
#include <cstdint>

#include "serialization/worker_messages.hpp"

namespace carom::actors {

/// What the worker at `index` is told first: what has been registered and loaded up to now, as far
/// as it was not born with it. `cpus` may be used at once.
serialization::setup_message make_setup(const pool_options& options, std::uint64_t worker_id,
                                        std::uint32_t index, int cpus);

}  // namespace carom::actors

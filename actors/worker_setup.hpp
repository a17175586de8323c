// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/pool_options.hpp>
#include <cstdint>

#include "serialization/worker_messages.hpp"

namespace carom::actors {

/// What the worker at `index` is told first: what has been registered and loaded up to now.
serialization::setup_message make_setup(const pool_options& options, std::uint64_t worker_id,
                                        std::uint32_t index);

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>
#include <cstdint>

/// Asked from inside a task.
namespace carom::this_task {

/// The id of the running task, as `async_result::id` gives it (for a map item: its chunk's); 0
/// outside a task.
CAROM_API std::uint64_t id() noexcept;

}  // namespace carom::this_task

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace carom::detail {

/// The first of so many. Counts from 1 on; a forked copy goes on where its original was.
std::uint64_t next_task_ids(std::size_t count) noexcept;
inline std::uint64_t next_task_id() noexcept { return next_task_ids(1); }

/// Whether the task is of a process that this one is a forked copy of: only there can it end.
bool is_task_of_original(std::uint64_t id) noexcept;

}  // namespace carom::detail

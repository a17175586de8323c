// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>
#include <carom/stop_token.hpp>
#include <chrono>
#include <cstdint>
#include <functional>

/// Asked from inside a task.
namespace carom::this_task {

/// The id of the running task, as `async_result::id` gives it (for a map item: its chunk's); 0
/// outside a task.
CAROM_API std::uint64_t id() noexcept;

/// Throws soft_time_limit_exceeded, once, when the running task has passed its soft time limit
/// (billiard raises it anywhere; C++ cannot). Before that, runs what `on_soft_time_limit` was
/// given. Costs one read of memory while there is nothing to say. Outside a task it does nothing.
/// From the thread that runs the task.
CAROM_API void checkpoint();

/// Says whether the running task, or map item, has passed its soft time limit. Valid for as long as
/// that task runs; any thread.
CAROM_API carom::stop_token stop_token() noexcept;

/// Sleeps, and throws soft_time_limit_exceeded as soon as the soft limit passes, as `checkpoint`.
CAROM_API void sleep_for(std::chrono::nanoseconds duration);

/// Has `f` called by the next `checkpoint` or `sleep_for` after the soft limit has passed, before
/// it throws. Holds for the running task only; a later one replaces it. What `f` throws is thrown
/// there instead.
CAROM_API void on_soft_time_limit(std::function<void()> f);

/// Says how far the running task is: `done` of `total` parts, in units of the task's own. Seen by
/// pool::workers; costs three writes to memory. Outside a task it does nothing. From the thread
/// that runs the task.
CAROM_API void progress(std::uint64_t done, std::uint64_t total) noexcept;

}  // namespace carom::this_task

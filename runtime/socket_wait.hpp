// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <poll.h>

#include <chrono>
#include <optional>
#include <span>

namespace carom::runtime {

/// The moment at which a wait ends; none: never.
using deadline = std::optional<std::chrono::steady_clock::time_point>;

/// Saturates.
deadline deadline_after(std::optional<std::chrono::nanoseconds> timeout) noexcept;
/// What is left, at least 0; none: for ever.
std::optional<std::chrono::nanoseconds> time_left(const deadline& until) noexcept;
deadline earlier(const deadline& a, const deadline& b) noexcept;

/// Waits until one of the descriptors has an event, or `until`; how many have. Goes on after
/// signals, but throws soft_time_limit_exceeded inside a task whose soft limit has passed. Throws
/// std::system_error.
int wait_for_events(std::span<pollfd> descriptors, const deadline& until);
/// The same for one; false when `until` is over. Errors and hang-ups are events.
bool wait_for_event(int fd, short events, const deadline& until);

}  // namespace carom::runtime

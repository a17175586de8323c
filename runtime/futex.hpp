// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace carom::runtime {

/// Waits while `word` is `expected`, until woken or the steady clock reaches `deadline`. May return
/// early. Within one process (futex(2), FUTEX_PRIVATE_FLAG).
void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                std::optional<std::chrono::steady_clock::time_point> deadline) noexcept;
void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept;

/// The same for a word in memory that processes share.
void futex_wait_shared(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::optional<std::chrono::steady_clock::time_point> deadline) noexcept;
void futex_wake_all_shared(const std::atomic<std::uint32_t>& word) noexcept;
void futex_wake_one_shared(const std::atomic<std::uint32_t>& word) noexcept;

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include "runtime/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>

namespace carom::runtime {
namespace {

void wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
          std::optional<std::chrono::steady_clock::time_point> deadline, int scope) noexcept {
  timespec until{};
  if (deadline) {
    const auto ns =
        std::chrono::duration_cast<std::chrono::nanoseconds>(deadline->time_since_epoch()).count();
    until.tv_sec = ns / 1'000'000'000;
    until.tv_nsec = ns % 1'000'000'000;
  }
  // The steady clock is CLOCK_MONOTONIC, which FUTEX_WAIT_BITSET takes as an absolute time.
  ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | scope, expected, deadline ? &until : nullptr,
            nullptr, FUTEX_BITSET_MATCH_ANY);
}

void wake(const std::atomic<std::uint32_t>& word, int scope, int how_many = INT_MAX) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE | scope, how_many, nullptr, nullptr, 0);
}

}  // namespace

void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                std::optional<std::chrono::steady_clock::time_point> deadline) noexcept {
  wait(word, expected, deadline, FUTEX_PRIVATE_FLAG);
}

void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept {
  wake(word, FUTEX_PRIVATE_FLAG);
}

void futex_wait_shared(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::optional<std::chrono::steady_clock::time_point> deadline) noexcept {
  wait(word, expected, deadline, 0);
}

void futex_wake_all_shared(const std::atomic<std::uint32_t>& word) noexcept { wake(word, 0); }

void futex_wake_one_shared(const std::atomic<std::uint32_t>& word) noexcept { wake(word, 0, 1); }

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <functional>

namespace carom::test {

/// By how much sanitizers may slow down what has a time to keep.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int slowness = 5;
#else
inline constexpr int slowness = 1;
#endif

/// Waits until `condition` holds, for what gives no sign when it changes (counts in /proc). Says
/// whether it holds at the end.
bool eventually(const std::function<bool()>& condition,
                std::chrono::milliseconds deadline = std::chrono::seconds(20));

/// Waits until a pidfd's process has ended.
bool wait_for_end(int pidfd, std::chrono::milliseconds deadline = std::chrono::seconds(20));

/// To be called before a fork beside other threads. Under AddressSanitizer it lets them come to
/// rest, for a moment at most: gcc 12's does not guard its lists of stacks across a fork, and a
/// copy made while a thread allocates may wait for ever.
void let_threads_rest();

/// Lets time pass where time is the subject of the test.
void let_pass(std::chrono::nanoseconds time);

}  // namespace carom::test

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstdint>

namespace carom::test {

/// Words of memory that the test and all processes forked below it share: how tasks tell a test
/// what happens in them, and are held until the test has seen it. Waits end by a wake-up, never by
/// polling; nothing is held by a process that is killed.
namespace board {

/// Maps it; before the fork server is made, so that workers inherit it. `fd`: the board of the
/// process that started this one, from `board::fd`.
void open(int fd = -1);
/// For a helper program that is to share it.
int fd();
/// Programs that carom runs anew have boards of their own from here on: for one that closes ours.
void hide();
/// All words become 0.
void reset();

std::uint32_t get(unsigned slot);
void set(unsigned slot, std::uint32_t value);
/// Adds to the word; gives what it was.
std::uint32_t add(unsigned slot, std::uint32_t amount = 1);

/// Waits until the word is at least `value`; says whether it is.
bool wait(unsigned slot, std::uint32_t value = 1,
          std::chrono::milliseconds deadline = std::chrono::seconds(30));

/// How many words there are.
inline constexpr unsigned slots = 1 << 16;

}  // namespace board
}  // namespace carom::test

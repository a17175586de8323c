// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// What the soak test runs. Each task has a number and counts on a board that all processes share
/// how often it was begun.
namespace bench::soak_tasks {

/// Mapped by `prepare_soak`; its name in /proc/PID/maps marks every process of the test.
void open_board();
const std::string& board_name();
std::uint32_t times_begun(std::uint64_t task);

int quick(std::uint64_t task, int x);
int slow(std::uint64_t task, int milliseconds);
int crashes(std::uint64_t task, int signal);
std::size_t leaks(std::uint64_t task, std::size_t bytes);
void deaf(std::uint64_t task);
int has_children(std::uint64_t task);
std::string echoes(std::uint64_t task, std::string bytes);
int throws(std::uint64_t task);
void waits_softly(std::uint64_t task);
int leaves(std::uint64_t task, int status);
/// Items of a map: not counted one by one.
int item(int x);

}  // namespace bench::soak_tasks

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <string>

#include "runtime/channel.hpp"
#include "runtime/unique_fd.hpp"

// start_method::spawn: a child of the fork server runs a program anew. That knows itself by what it
// finds open: its channel, its host's pidfd, and a ticket with its process id, which therefore
// means nobody who inherits it.
namespace carom::runtime {

/// Says that main has called carom::init, and opens the program that it belongs to while its file
/// is the one that was started. Throws std::system_error.
void open_own_executable();
/// Another program for what is spawned from here on. Throws std::system_error.
void set_executable(const std::string& path);

/// Packs `worker_end` into a channel of its own, with what turns the child behind it into that
/// program. Throws start_method_error where there is none.
unique_fd write_launch(unique_fd worker_end);
/// Throws start_method_error where no program can be spawned.
void require_executable();
/// The same where no program can be spawned, or where the one that would be does
/// not call carom::init within `timeout`; that is tried once for each program.
void check_executable(std::chrono::nanoseconds timeout);

/// The child behind such a channel: runs the program.
[[noreturn]] void run_launch(message launch) noexcept;

/// In a program run so: its channel, once. Empty in any other process.
channel take_launched_channel() noexcept;

}  // namespace carom::runtime

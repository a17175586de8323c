// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>
#include <string_view>

namespace carom {

/// How processes and workers are made (billiard: contexts "forkserver", "fork", "spawn").
enum class start_method {
  /// From the fork server, which `carom::init` started before there were threads.
  forkserver,
  /// Straight from the host: the child sees its memory of that moment. Of its descriptors it keeps
  /// those that are not close-on-exec, and those of locks, shared memory and simple queues, whose
  /// handles work on. Risky when the host has threads; logs one warning then.
  fork,
  /// A new run of the program, through the fork server: nothing of the host's memory is in it. Its
  /// main must call `carom::init`, which never returns there.
  spawn
};

/// "forkserver", "fork" or "spawn".
CAROM_API std::string_view to_string(start_method method) noexcept;

/// The method of processes and pools that are not told another: forkserver, unless
/// `set_start_method` has said otherwise here or in the process that started this one.
/// Thread-safe (billiard: get_start_method).
CAROM_API start_method get_start_method() noexcept;

}  // namespace carom

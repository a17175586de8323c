// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "runtime/channel.hpp"

namespace carom::runtime {

/// The life of every child that carom makes: a worker, a process, or a program to be run, as the
/// first message says. Leaves, or returns when nobody is there to say it.
void run_child(channel to_host);

/// The function of set_forkserver_preload; null if there is none.
void (*forkserver_preload() noexcept)();

}  // namespace carom::runtime

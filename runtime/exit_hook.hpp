// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::runtime {

/// What exit() runs before all that a process has inherited, with its status. Returns, or leaves.
using exit_hook = void (*)(int status);

/// In the server, behind everything that may call atexit(3): the processes that it forks find their
/// registration made, and touch no page for it.
void register_exit_hook();

/// In a process that was forked from its host, whose registrations came later than any that it has
/// inherited: the next `set_exit_hook` registers anew.
void forget_exit_hook() noexcept;

/// From now on. Not thread safe: while a process begins.
void set_exit_hook(exit_hook hook);

}  // namespace carom::runtime

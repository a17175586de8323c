// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>
#include <functional>

namespace carom {

/// Starts the fork server. Write it as the first line of main, before any thread: workers are
/// copies of the process as it is at this moment. Calling it again does nothing. In a process that
/// start_method::spawn has made it never returns: it runs what that process is for. At the end of
/// main, or `exit`, it sees to what `process` and `at_exit` promise.
///
/// Drop privileges before it (setuid, capabilities, chroot): tasks run with those that the process
/// has here. Without /proc it starts nothing, and pools and processes throw start_method_error. The
/// fork server is no child that a wait sees, unless this process is process 1. If this program
/// closes its descriptors later, as closefrom(3) does, the next pool or process starts another one.
///
/// Throws start_method_error if the process has more than one thread, or with what the function of
/// `set_forkserver_preload` threw as nested exception; std::system_error if processes cannot be
/// made (billiard: freeze_support).
CAROM_API void init(int argc, char** argv);

/// Has `f` run in the fork server before it serves: what it loads is shared, copy-on-write, by all
/// workers and processes that come from there, and loaded once. It must leave no thread and no
/// process behind. Should the fork server die, `f` runs again in the next one, unless that inherits
/// its memory. Call it before `init`; start_method_error if the fork server is there already. Null
/// takes it back. Of start_method::spawn and fork nothing is preloaded. Not thread-safe (billiard:
/// set_forkserver_preload, a list of modules to import).
CAROM_API void set_forkserver_preload(void (*f)());

/// Has `f` run when this process ends in order: main returns or `exit` is called, a process's
/// function has ended, a worker leaves by itself. The last one runs first; what they throw is
/// logged. They are this process's own: no child inherits them. They run before daemons are
/// terminated and other children joined, and before objects are destroyed that are older than
/// `init`, or than the first call; static objects made later are destroyed before that. Not after a
/// signal, `_exit` or an `exit` inside of a pool's task. Thread-safe (billiard: Finalize).
CAROM_API void at_exit(std::function<void()> f);

/// Has `f` run at the start of each process and worker that carom makes from here on, by whatever
/// start method, before its function or initializer, and in what those start in turn. In order of
/// registration; what they throw is logged. Thread-safe (billiard: register_after_fork).
CAROM_API void after_fork(void (*f)());

}  // namespace carom

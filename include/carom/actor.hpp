// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <carom/call.hpp>
#include <carom/detail/caf.hpp>
#include <carom/export.hpp>
#include <carom/pool_options.hpp>
#include <exception>

namespace carom {

/// Spawns a pool as an actor of `system`, which must outlive it.
///
/// Requests: a `packed_call` (made by `carom::call` where this header is included). The reply is
/// the function's value; nothing for a void function; `carom::result<R>` where CAF cannot carry R.
/// A task that fails is answered with a caf::error of category `carom`, see `actor_errc`.
/// Up to 64 KiB the value is unpacked on the pool's loop, a larger one in `system`'s scheduler.
/// An exit message terminates the pool; the actor quits when its last worker is gone.
///
/// Throws as the constructor of `pool` does. Thread-safe.
CAROM_API caf::actor spawn_pool(caf::actor_system& system, pool_options options = {});

/// The codes of caf::errors of category `carom`: one for each class of errors.hpp, and `task` for
/// the exceptions of tasks themselves.
enum class actor_errc : std::uint8_t {
  task = 1,
  worker_lost,
  terminated,
  restart_freq_exceeded,
  encoding_error,
  pool_closed,
  queue_full,
  unknown_task,
  invalid_call
};

/// The category of caf::errors that come from carom.
CAROM_API caf::atom_value error_category() noexcept;
/// The error for an exception: its class as code, its text as context.
CAROM_API caf::error make_actor_error(const std::exception_ptr& error);

}  // namespace carom

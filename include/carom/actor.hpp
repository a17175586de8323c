// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <carom/call.hpp>
#include <carom/detail/caf.hpp>
#include <carom/export.hpp>
#include <carom/pool_options.hpp>
#include <carom/queue.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>

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

/// What queue_actor may see of a queue.
struct queue_actor_access {
  template <class T>
  static std::shared_ptr<detail::queue_handle> handle(const queue<T>& q) {
    (void)q.access();
    return q.handle_;
  }
};

/// Asks a queue's actor for the next value. Without one within `timeout` the answer is the error
/// `actor_errc::queue_empty`; choose it shorter than the request's own, which takes nothing back: a
/// value that comes after that is lost.
struct queue_get {
  std::optional<std::chrono::nanoseconds> timeout{};
};

/// Asks a queue's actor to put a value; made for the queue's type. Answered, without a value, when
/// it is in the queue; with `actor_errc::queue_full` if there is no room within `timeout`.
class queue_put {
 public:
  /// Throws encoding_error.
  template <class T>
  queue_put(const queue<T>&, const std::type_identity_t<T>& value,
            std::optional<std::chrono::nanoseconds> within = std::nullopt)
      : timeout(within), item(std::make_shared<detail::blob>(detail::queue_item_blob())) {
    detail::encode(*item, value);
  }

  std::optional<std::chrono::nanoseconds> timeout;
  std::shared_ptr<detail::blob> item;
};

namespace detail {

using caf_item_reply = caf::message (*)(const queue_received&);

template <class T>
caf::message make_caf_item(const queue_received& item) {
  const descriptor_scope in_reach(&item.descriptors);
  auto value = std::get<0>(decode<T>(item.bytes()));
  if constexpr (caf::detail::is_serializable<T>::value && std::is_copy_constructible_v<T>)
    return caf::make_message(std::move(value));
  else
    return caf::make_message(result<T>(std::move(value)));
}

CAROM_API caf::actor spawn_queue_actor(caf::actor_system& system,
                                       std::shared_ptr<queue_handle> queue, caf_item_reply make);

}  // namespace detail

/// The queue as an actor of `system`; in the process that made the queue, elsewhere process_error.
/// It understands `queue_get`, answered by the value (`carom::result<T>` where CAF cannot carry T),
/// and `queue_put`. Values are unpacked in `system`, never on the queue's loop. An actor that goes
/// down takes its requests back. Keeps the queue; ends when nobody refers to it.
template <class T>
caf::actor queue_actor(caf::actor_system& system, const queue<T>& q) {
  return detail::spawn_queue_actor(system, queue_actor_access::handle(q),
                                   &detail::make_caf_item<T>);
}

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
  invalid_call,
  queue_empty
};

/// The category of caf::errors that come from carom.
CAROM_API caf::atom_value error_category() noexcept;
/// The error for an exception: its class as code, its text as context.
CAROM_API caf::error make_actor_error(const std::exception_ptr& error);

}  // namespace carom

// They stay within this process.
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(carom::queue_get)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(carom::queue_put)

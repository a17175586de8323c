// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/handle_form.hpp>
#include <carom/detail/shared_object.hpp>
#include <carom/export.hpp>
#include <carom/sync.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace carom {

/// The lock of a value or array (billiard: what `get_lock()` gives): one in the same memory, that
/// its owner may take again as an rlock, or the lock that the object was given. A handle, like
/// `lock`: copies are the same lock, it travels, and std::scoped_lock works with it. When its owner
/// dies, the next one gets it at once and is told by `acquire` and `abandoned`.
class CAROM_API object_lock {
 public:
  /// An object may be guarded by a lock that others use too.
  object_lock(exclusive_lock shared) noexcept : lock_(std::move(shared)) {}
  object_lock(rlock shared) noexcept : lock_(std::move(shared)) {}
  // There is no move: a handle always names something.
  object_lock(const object_lock&) noexcept = default;
  object_lock& operator=(const object_lock&) noexcept = default;

  void lock() { acquire(); }
  /// Throws process_error if the calling thread does not hold the lock.
  void unlock() { release(); }
  bool try_lock() { return static_cast<bool>(acquire(std::chrono::nanoseconds(0))); }
  template <class Rep, class Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& time) {
    return static_cast<bool>(acquire(time));
  }

  /// Waits for the lock, at most so long, and says how that ended. In a task it is a checkpoint.
  acquire_result acquire(detail::timeout time = std::nullopt);
  void release();
  /// Whether the present owner got the lock from one that died; for that owner to ask.
  bool abandoned() const noexcept;

 private:
  friend struct detail::handle_access;
  template <class T>
  friend class value;
  template <class T>
  friend class array;
  explicit object_lock(std::shared_ptr<detail::shared_object> own) noexcept
      : lock_(std::move(own)) {}
  /// For who travels with the object itself, which is then not named twice.
  void pack_beside(detail::byte_writer& out) const;
  static object_lock unpack_beside(detail::byte_reader& in,
                                   std::shared_ptr<detail::shared_object> object);
  void pack(detail::byte_writer& out) const;
  static object_lock unpack(detail::byte_reader& in);

  std::variant<std::shared_ptr<detail::shared_object>, exclusive_lock, rlock> lock_;
};

template <>
struct detail::form<object_lock> : detail::handle_form<object_lock> {};

namespace detail {

/// Holds an object's lock while a function of the object runs.
class object_guard {
 public:
  object_guard(object_lock& lock, shared_object& object) : lock_(lock) {
    // The lock in the object's memory has noted it already; another one cannot.
    if (lock_.acquire().abandoned()) object.set_damaged(true);
    if (object.enter()) entered_ = &object;
  }
  object_guard(const object_guard&) = delete;
  object_guard& operator=(const object_guard&) = delete;
  ~object_guard() {
    if (entered_) entered_->leave();
    lock_.release();
  }

 private:
  object_lock& lock_;
  shared_object* entered_ = nullptr;
};

/// Runs what was given to `with`.
template <class F, class What>
decltype(auto) call_under_lock(shared_object& object, F&& f, What&& what) {
  if constexpr (std::is_invocable_v<F, What, bool>) {
    const bool was_damaged = object.damaged();
    if constexpr (std::is_void_v<std::invoke_result_t<F, What, bool>>) {
      std::invoke(std::forward<F>(f), std::forward<What>(what), was_damaged);
      if (was_damaged) object.set_damaged(false);
    } else {
      decltype(auto) result =
          std::invoke(std::forward<F>(f), std::forward<What>(what), was_damaged);
      if (was_damaged) object.set_damaged(false);
      return result;
    }
  } else {
    return std::invoke(std::forward<F>(f), std::forward<What>(what));
  }
}

}  // namespace detail
}  // namespace carom

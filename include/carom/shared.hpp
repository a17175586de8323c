// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Values and arrays in memory that processes share. Each object has a piece of memory of its own
/// (one descriptor in each process that knows it), with its lock in it. Handles: copies, what
/// arrives as argument, result or message, and what a forked child inherits, are the same object,
/// as long as any of them lives; `copy` makes another. Elements are trivially copyable, so that
/// their bytes mean the same everywhere; strings and containers are for <carom/shared_heap.hpp>,
/// large plain bytes for <carom/shared_buffer.hpp>.
///
/// `raw_value` and `raw_array` have no lock: what several write needs one, or std::atomic_ref.
/// `value` and `array` lock for each `get`, `set` and `with`. A process that dies while it holds
/// the lock holds nobody up; that the object may be half changed is told by `with` and `damaged`,
/// and to who takes the lock by `get_lock().acquire()`.
///
/// Any thread may call any function; one handle must not be assigned while another thread uses it.
/// Making an object throws std::system_error if there is no memory or no descriptor left. What
/// waits for a lock is, in a task, a checkpoint.
#include <carom/detail/handle_form.hpp>
#include <carom/detail/shared_object.hpp>
#include <carom/object_lock.hpp>
#include <carom/shared_array.hpp>
#include <carom/shared_buffer.hpp>

#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>

namespace carom {

/// A T in shared memory, without a lock (billiard: `RawValue`).
template <class T>
class raw_value {
 public:
  using value_type = T;

  raw_value() : raw_value(std::in_place) {}
  explicit raw_value(const T& initial) : raw_value(std::in_place, initial) {}
  /// Made in place: for types that cannot be copied, as std::atomic<int>.
  template <class... Args>
  explicit raw_value(std::in_place_t, Args&&... args)
      : object_(detail::shared_object::make(detail::shared_type_of<T>(false), 1)) {
    ::new (static_cast<void*>(object_->data())) T(std::forward<Args>(args)...);
  }
  // There is no move: a handle always names something.
  raw_value(const raw_value&) noexcept = default;
  raw_value& operator=(const raw_value&) noexcept = default;

  T get() const { return get_obj(); }
  void set(const T& to) { get_obj() = to; }
  /// The object itself, for as long as a handle of this process lives.
  T& get_obj() noexcept { return *std::launder(reinterpret_cast<T*>(object_->data())); }
  const T& get_obj() const noexcept {
    return *std::launder(reinterpret_cast<const T*>(object_->data()));
  }
  T& operator*() noexcept { return get_obj(); }
  const T& operator*() const noexcept { return get_obj(); }
  T* operator->() noexcept { return &get_obj(); }
  const T* operator->() const noexcept { return &get_obj(); }

 private:
  friend struct detail::handle_access;
  template <class U>
  friend class value;
  explicit raw_value(std::shared_ptr<detail::shared_object> object) : object_(std::move(object)) {}
  void pack(detail::byte_writer& out) const { object_->pack(out); }
  static raw_value unpack(detail::byte_reader& in) {
    const auto type = detail::shared_type_of<T>(false);
    auto object = detail::shared_object::unpack(in, &type);
    if (object->count() != 1) detail::throw_corrupt("a shared value is not one");
    return raw_value(std::move(object));
  }

  std::shared_ptr<detail::shared_object> object_;
};

/// A T in shared memory with a lock (billiard: `Value`).
template <class T>
class value {
 public:
  using value_type = T;

  value() : value(raw_value<T>()) {}
  explicit value(const T& initial) : value(raw_value<T>(initial)) {}
  /// With a lock that guards other things, too (billiard: `lock=`).
  value(const T& initial, object_lock guard) : value(raw_value<T>(initial), std::move(guard)) {}

  T get() const {
    const detail::object_guard guard(lock_, *raw_.object_);
    return raw_.get_obj();
  }
  void set(const T& to) {
    const detail::object_guard guard(lock_, *raw_.object_);
    raw_.get_obj() = to;
  }
  /// Sets it, and gives what it was.
  T exchange(const T& to) {
    const detail::object_guard guard(lock_, *raw_.object_);
    return std::exchange(raw_.get_obj(), to);
  }
  /// Calls `f(T&)` under the lock, for what reads and writes: `v.with([](int& n) { ++n; })`. Gives
  /// what it gives. An `f(T&, bool)` is also told whether somebody died while it held the lock, and
  /// has then to repair the value: when it returns, the value counts as whole.
  template <class F>
  decltype(auto) with(F&& f) {
    value kept(*this);  // `f` may give this one another object
    const detail::object_guard guard(kept.lock_, *kept.raw_.object_);
    return detail::call_under_lock(*kept.raw_.object_, std::forward<F>(f), kept.raw_.get_obj());
  }

  /// Whether somebody died while it held the lock, so that the value may be half changed, and no
  /// `with` has been told so since. A death with a lock that was given to `synchronized` is known
  /// from the moment at which somebody else takes that lock for this value.
  bool damaged() const noexcept { return raw_.object_->look_for_damage(); }

  /// The lock (billiard: `get_lock`).
  object_lock get_lock() const { return lock_; }
  /// The value without the lock (billiard: `get_obj`): the same object.
  raw_value<T> get_obj() const { return raw_; }

 private:
  friend struct detail::handle_access;
  template <class U>
  friend value<U> synchronized(raw_value<U> raw);
  template <class U>
  friend value<U> synchronized(raw_value<U> raw, object_lock guard);
  explicit value(raw_value<T> raw) : raw_(std::move(raw)), lock_(raw_.object_) {}
  value(raw_value<T> raw, object_lock guard) : raw_(std::move(raw)), lock_(std::move(guard)) {}
  void pack(detail::byte_writer& out) const {
    raw_.pack(out);
    lock_.pack_beside(out);
  }
  static value unpack(detail::byte_reader& in) {
    auto raw = raw_value<T>::unpack(in);
    auto guard = object_lock::unpack_beside(in, raw.object_);
    return value(std::move(raw), std::move(guard));
  }

  raw_value<T> raw_;
  mutable object_lock lock_;
};

/// `raw` with a lock: the one in its memory, the same for all who ask so, or `guard` (billiard:
/// `synchronized`).
template <class T>
value<T> synchronized(raw_value<T> raw) {
  return value<T>(std::move(raw));
}
template <class T>
value<T> synchronized(raw_value<T> raw, object_lock guard) {
  return value<T>(std::move(raw), std::move(guard));
}

/// Another value of the same content, with a lock of its own (billiard: `copy`).
template <class T>
raw_value<T> copy(const raw_value<T>& from) {
  return raw_value<T>(from.get());
}
template <class T>
value<T> copy(const value<T>& from) {
  return value<T>(from.get());
}

template <class T>
struct detail::form<raw_value<T>> : detail::handle_form<raw_value<T>> {};
template <class T>
struct detail::form<value<T>> : detail::handle_form<value<T>> {};

}  // namespace carom

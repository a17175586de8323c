// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Arrays in shared memory; see <carom/shared.hpp>.
#include <carom/detail/handle_form.hpp>
#include <carom/detail/shared_object.hpp>
#include <carom/object_lock.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <new>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace carom {

/// So many T in shared memory, without a lock (billiard: `RawArray`). A contiguous, sized range. As
/// with std::vector, `raw_array<int>{10}` is one element and `raw_array<int>(10)` are ten.
template <class T>
class raw_array {
 public:
  using value_type = T;
  using size_type = std::size_t;
  using iterator = T*;
  using const_iterator = const T*;

  /// `size` elements, each a T{}.
  explicit raw_array(std::size_t size) : raw_array(make(size)) {
    if (!detail::is_all_zeros(T{})) std::uninitialized_value_construct_n(data(), size);
  }
  raw_array(std::size_t size, const T& initial) : raw_array(make(size)) {
    if (!detail::is_all_zeros(initial)) std::uninitialized_fill_n(data(), size, initial);
  }
  raw_array(std::initializer_list<T> elements)
      : raw_array(std::span<const T>(elements.begin(), elements.size())) {}
  /// The elements of any range, in its order.
  template <std::ranges::input_range R>
  requires(std::convertible_to<std::ranges::range_reference_t<R>, T> &&
           !std::same_as<std::remove_cvref_t<R>, raw_array>) explicit raw_array(R&& elements)
      : raw_array(of(std::forward<R>(elements))) {}
  // There is no move: a handle always names something.
  raw_array(const raw_array&) noexcept = default;
  raw_array& operator=(const raw_array&) noexcept = default;

  std::size_t size() const noexcept { return object_->count(); }
  bool empty() const noexcept { return size() == 0; }
  T* data() noexcept { return reinterpret_cast<T*>(object_->data()); }
  const T* data() const noexcept { return reinterpret_cast<const T*>(object_->data()); }
  std::span<T> span() noexcept { return {data(), size()}; }
  std::span<const T> span() const noexcept { return {data(), size()}; }

  /// `i` is below `size()`.
  T& operator[](std::size_t i) noexcept { return data()[i]; }
  const T& operator[](std::size_t i) const noexcept { return data()[i]; }
  /// Throws std::out_of_range.
  T& at(std::size_t i) { return data()[checked(i)]; }
  const T& at(std::size_t i) const { return data()[checked(i)]; }

  iterator begin() noexcept { return data(); }
  iterator end() noexcept { return data() + size(); }
  const_iterator begin() const noexcept { return data(); }
  const_iterator end() const noexcept { return data() + size(); }

 private:
  friend struct detail::handle_access;
  template <class U>
  friend class array;
  explicit raw_array(std::shared_ptr<detail::shared_object> object) : object_(std::move(object)) {}

  static std::shared_ptr<detail::shared_object> make(std::size_t size) {
    return detail::shared_object::make(detail::shared_type_of<T>(true), size);
  }
  template <class R>
  static std::shared_ptr<detail::shared_object> of(R&& elements) {
    if constexpr (std::ranges::forward_range<R>) {
      auto made = make(static_cast<std::size_t>(std::ranges::distance(elements)));
      T* place = reinterpret_cast<T*>(made->data());
      for (auto&& each : elements)
        ::new (static_cast<void*>(place++)) T(std::forward<decltype(each)>(each));
      return made;
    } else {
      std::vector<T> all;
      for (auto&& each : elements) all.push_back(std::forward<decltype(each)>(each));
      return of(all);
    }
  }
  std::size_t checked(std::size_t i) const {
    if (i >= size()) detail::throw_no_element(i, size());
    return i;
  }

  void pack(detail::byte_writer& out) const { object_->pack(out); }
  static raw_array unpack(detail::byte_reader& in) {
    const auto type = detail::shared_type_of<T>(true);
    return raw_array(detail::shared_object::unpack(in, &type));
  }

  std::shared_ptr<detail::shared_object> object_;
};

/// So many T in shared memory with a lock (billiard: `Array`). `get`, `set`, `assign`, `to_vector`
/// and `with` take it; `operator[]`, `at`, iterators and `span` do not: they are for who holds it,
/// by `with` or `get_lock()`, or needs none.
template <class T>
class array {
 public:
  using value_type = T;
  using size_type = std::size_t;
  using iterator = T*;
  using const_iterator = const T*;

  explicit array(std::size_t size) : array(raw_array<T>(size)) {}
  array(std::size_t size, const T& initial) : array(raw_array<T>(size, initial)) {}
  array(std::initializer_list<T> elements) : array(raw_array<T>(elements)) {}
  template <std::ranges::input_range R>
  requires(std::convertible_to<std::ranges::range_reference_t<R>, T> &&
           !std::same_as<std::remove_cvref_t<R>, array> &&
           !std::same_as<std::remove_cvref_t<R>, raw_array<T>>) explicit array(R&& elements)
      : array(raw_array<T>(std::forward<R>(elements))) {}

  std::size_t size() const noexcept { return raw_.size(); }
  bool empty() const noexcept { return raw_.empty(); }

  /// One element, under the lock. Throws std::out_of_range.
  T get(std::size_t i) const {
    const detail::object_guard guard(lock_, *raw_.object_);
    return raw_.at(i);
  }
  void set(std::size_t i, const T& to) {
    const detail::object_guard guard(lock_, *raw_.object_);
    raw_.at(i) = to;
  }
  /// The elements from `first` on, `count` at most, under the lock (billiard: a slice). Throws
  /// std::out_of_range if `first` is beyond the end.
  std::vector<T> to_vector(std::size_t first = 0, std::size_t count = std::dynamic_extent) const {
    const detail::object_guard guard(lock_, *raw_.object_);
    const auto part = slice(first, count);
    return {part.begin(), part.end()};
  }
  /// Overwrites the elements from `first` on, under the lock (billiard: assigning to a slice).
  /// Throws std::out_of_range, and changes nothing, if there are not as many.
  void assign(std::size_t first, std::span<const T> elements) {
    const detail::object_guard guard(lock_, *raw_.object_);
    if (slice(first, elements.size()).size() != elements.size())
      detail::throw_no_element(first + elements.size() - 1, size());
    std::copy(elements.begin(), elements.end(), raw_.begin() + static_cast<std::ptrdiff_t>(first));
  }
  /// Calls `f(std::span<T>)` under the lock, and gives what it gives. An `f(std::span<T>, bool)` is
  /// also told whether somebody died while it held the lock, and has then to repair the elements:
  /// when it returns, they count as whole.
  template <class F>
  decltype(auto) with(F&& f) {
    array kept(*this);  // `f` may give this one another object
    const detail::object_guard guard(kept.lock_, *kept.raw_.object_);
    return detail::call_under_lock(*kept.raw_.object_, std::forward<F>(f), kept.raw_.span());
  }

  /// An array of char as text (billiard: `.value`): up to its first NUL, under the lock.
  std::string str() const requires std::same_as<T, char> {
    const detail::object_guard guard(lock_, *raw_.object_);
    return {raw_.begin(), std::find(raw_.begin(), raw_.end(), '\0')};
  }
  /// Throws std::out_of_range if the text does not fit. A NUL follows it where there is room.
  void set_str(std::string_view text) requires std::same_as<T, char> {
    const detail::object_guard guard(lock_, *raw_.object_);
    if (text.size() > size()) detail::throw_no_element(text.size() - 1, size());
    const auto end = std::copy(text.begin(), text.end(), raw_.begin());
    if (end != raw_.end()) *end = '\0';
  }

  T* data() noexcept { return raw_.data(); }
  const T* data() const noexcept { return raw_.data(); }
  std::span<T> span() noexcept { return raw_.span(); }
  std::span<const T> span() const noexcept { return raw_.span(); }
  T& operator[](std::size_t i) noexcept { return raw_[i]; }
  const T& operator[](std::size_t i) const noexcept { return raw_[i]; }
  /// Throws std::out_of_range.
  T& at(std::size_t i) { return raw_.at(i); }
  const T& at(std::size_t i) const { return raw_.at(i); }
  iterator begin() noexcept { return raw_.begin(); }
  iterator end() noexcept { return raw_.end(); }
  const_iterator begin() const noexcept { return raw_.begin(); }
  const_iterator end() const noexcept { return raw_.end(); }

  /// Whether somebody died while it held the lock, so that elements may be half changed, and no
  /// `with` has been told so since. A death with a lock that was given to `synchronized` is known
  /// from the moment at which somebody else takes that lock for this array.
  bool damaged() const noexcept { return raw_.object_->look_for_damage(); }
  /// The lock (billiard: `get_lock`).
  object_lock get_lock() const { return lock_; }
  /// The array without the lock (billiard: `get_obj`): the same object.
  raw_array<T> get_obj() const { return raw_; }

 private:
  friend struct detail::handle_access;
  template <class U>
  friend array<U> synchronized(raw_array<U> raw);
  template <class U>
  friend array<U> synchronized(raw_array<U> raw, object_lock guard);
  explicit array(raw_array<T> raw) : raw_(std::move(raw)), lock_(raw_.object_) {}
  array(raw_array<T> raw, object_lock guard) : raw_(std::move(raw)), lock_(std::move(guard)) {}

  std::span<const T> slice(std::size_t first, std::size_t count) const {
    if (first > size()) detail::throw_no_element(first, size());
    return raw_.span().subspan(first, std::min(count, size() - first));
  }
  void pack(detail::byte_writer& out) const {
    raw_.pack(out);
    lock_.pack_beside(out);
  }
  static array unpack(detail::byte_reader& in) {
    auto raw = raw_array<T>::unpack(in);
    auto guard = object_lock::unpack_beside(in, raw.object_);
    return array(std::move(raw), std::move(guard));
  }

  raw_array<T> raw_;
  mutable object_lock lock_;
};

/// `raw` with a lock: the one in its memory, the same for all who ask so, or `guard` (billiard:
/// `synchronized`).
template <class T>
array<T> synchronized(raw_array<T> raw) {
  return array<T>(std::move(raw));
}
template <class T>
array<T> synchronized(raw_array<T> raw, object_lock guard) {
  return array<T>(std::move(raw), std::move(guard));
}

/// Another array of the same content, with a lock of its own (billiard: `copy`).
template <class T>
raw_array<T> copy(const raw_array<T>& from) {
  return raw_array<T>(from.span());
}
template <class T>
array<T> copy(const array<T>& from) {
  return array<T>(from.to_vector());
}

template <class T>
struct detail::form<raw_array<T>> : detail::handle_form<raw_array<T>> {};
template <class T>
struct detail::form<array<T>> : detail::handle_form<array<T>> {};

}  // namespace carom

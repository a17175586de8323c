// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <type_traits>
#include <utility>
#include <variant>

namespace carom {

/// The outcome of one task: its value, or the exception that it ended with. A value type; not
/// synchronized. `try_map` gives one for each item.
template <class R>
class result {
 public:
  using value_type = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

  /// A task that succeeded.
  result(value_type value) requires(!std::is_void_v<R>)
      : outcome_(std::in_place_index<0>, std::move(value)) {}
  result() requires std::is_void_v<R> : outcome_(std::in_place_index<0>) {}
  /// A task that failed with `error`, which must not be null.
  result(std::exception_ptr error) : outcome_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const noexcept { return outcome_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  /// The value. Throws the task's exception if it failed.
  const value_type& value() const& {
    if (!has_value()) std::rethrow_exception(std::get<1>(outcome_));
    return std::get<0>(outcome_);
  }
  value_type&& value() && {
    if (!has_value()) std::rethrow_exception(std::get<1>(outcome_));
    return std::get<0>(std::move(outcome_));
  }
  const value_type& operator*() const& { return value(); }

  /// The task's exception; null if it succeeded.
  std::exception_ptr error() const noexcept {
    return has_value() ? nullptr : std::get<1>(outcome_);
  }

 private:
  std::variant<value_type, std::exception_ptr> outcome_;
};

}  // namespace carom

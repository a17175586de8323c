// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/codec.hpp>
#include <cstddef>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace carom::detail {

/// What is packed and unpacked for a parameter of type P: views travel as what they view.
template <class P>
struct travelling {
  using type = P;
};
template <class C, class T>
struct travelling<std::basic_string_view<C, T>> {
  using type = std::basic_string<C, T>;
};
template <class T>
struct travelling<std::span<const T>> {
  using type = std::vector<T>;
};
template <class P>
using travelling_t = typename travelling<std::remove_cvref_t<P>>::type;

template <class P>
inline constexpr bool is_span_v = false;
template <class T>
inline constexpr bool is_span_v<std::span<const T>> = true;

/// A span parameter takes any range of its elements: an array, a vector, another span.
template <class P, class A>
concept copied_into_span = is_span_v<std::remove_cvref_t<P>> && std::ranges::input_range<A> &&
                           std::is_convertible_v < std::ranges::range_reference_t<A>,
typename std::remove_cvref_t<P>::value_type > ;

template <class P, class A>
inline constexpr bool converts_v =
    std::is_constructible_v<travelling_t<P>, A> || copied_into_span<P, A>;

/// What an argument becomes where the parameter's type is not known (generic lambdas).
template <class A>
struct argument_value {
  using type = travelling_t<std::decay_t<A>>;
};
template <>
struct argument_value<const char*> {
  using type = std::string;
};
template <>
struct argument_value<char*> {
  using type = std::string;
};
template <class A>
using argument_value_t = typename argument_value<std::decay_t<A>>::type;

template <class... Ps>
struct parameters {
  static constexpr std::size_t count = sizeof...(Ps);
};

/// The parameters of a function pointer or of a class with one call operator; `void` if unknown.
template <class F>
struct signature {
  using type = void;
};
template <class R, class... Ps>
struct signature<R (*)(Ps...)> {
  using type = parameters<Ps...>;
};
template <class R, class... Ps>
struct signature<R (*)(Ps...) noexcept> {
  using type = parameters<Ps...>;
};
template <class M>
struct member_signature {
  using type = void;
};
template <class R, class C, class... Ps>
struct member_signature<R (C::*)(Ps...)> {
  using type = parameters<Ps...>;
};
template <class R, class C, class... Ps>
struct member_signature<R (C::*)(Ps...) const> {
  using type = parameters<Ps...>;
};
template <class R, class C, class... Ps>
struct member_signature<R (C::*)(Ps...) noexcept> {
  using type = parameters<Ps...>;
};
template <class R, class C, class... Ps>
struct member_signature<R (C::*)(Ps...) const noexcept> {
  using type = parameters<Ps...>;
};
template <class F>
requires requires { &F::operator(); }
struct signature<F> {
  using type = typename member_signature<decltype(&F::operator())>::type;
};

template <class F>
inline constexpr bool is_function_pointer_v =
    std::is_pointer_v<F>&& std::is_function_v<std::remove_pointer_t<F>>;

/// Lambdas without captures and empty function objects: the type alone says what to run.
template <class F>
inline constexpr bool is_stateless_v =
    std::is_class_v<F>&& std::is_empty_v<F>&& std::is_default_constructible_v<F>;

template <class F>
struct check_callable {
  static_assert(is_function_pointer_v<F> || std::is_class_v<F>,
                "carom: a task is a function, a lambda without captures, or a function object "
                "with serialize()");
  static_assert(!std::is_class_v<F> || is_stateless_v<F> || is_serializable_v<F>,
                "carom: a lambda with captures (or a function object without serialize()) cannot "
                "travel to another process: pass what it captures as arguments");
  static constexpr bool value = true;
};

template <class P>
struct check_parameter {
  static_assert(!std::is_lvalue_reference_v<P> || std::is_const_v<std::remove_reference_t<P>>,
                "carom: a task cannot take a reference to non-const: what it changes would stay in "
                "the worker; return the changed value instead");
  static_assert(!std::is_pointer_v<std::remove_cvref_t<P>>,
                "carom: a pointer means nothing in another process: pass the value, a container or "
                "a smart pointer");
  static_assert(container_that_travels<travelling_t<P>>::value);  // with a sentence of its own
  static_assert(is_serializable_v<travelling_t<P>> || has_stateful_rule<travelling_t<P>>,
                "carom: a value of this parameter's type cannot travel to another process: give it "
                "a serialize(Archive&, unsigned) member or free function");
  static constexpr bool value = true;
};

template <class R>
struct check_result {
  static_assert(!std::is_reference_v<R> && !std::is_pointer_v<R>,
                "carom: a task returns a value: a reference or pointer means nothing in another "
                "process");
  static_assert(container_that_travels<R>::value);  // with a sentence of its own
  static_assert(std::is_void_v<R> || is_serializable_v<R> || has_stateful_rule<R>,
                "carom: a value of this result's type cannot travel to another process: give it a "
                "serialize(Archive&, unsigned) member or free function");
  static constexpr bool value = true;
};

/// How F is called with arguments of the types As: what is packed, and what comes back.
template <class F, class Parameters, class... As>
struct invocation;

template <class F, class... Ps, class... As>
struct invocation<F, parameters<Ps...>, As...> {
  static_assert(sizeof...(Ps) == sizeof...(As), "carom: wrong number of arguments for this task");
  template <class P, class A>
  struct check_argument {
    static_assert(converts_v<P, A>,
                  "carom: an argument does not convert to the task's parameter type");
    static constexpr bool value = check_parameter<P>::value;
  };
  template <class = void>
  static constexpr bool check() {
    if constexpr (sizeof...(Ps) == sizeof...(As))
      return (check_argument<Ps, As>::value && ... && true);
    else
      return false;
  }
  static constexpr bool ok = check();
  using values = std::tuple<travelling_t<Ps>...>;
  using result = std::invoke_result_t<F&, Ps...>;

  /// Hands an unpacked value to the function the way its parameter wants it.
  static result call(F& f, values& v) {
    return [&]<std::size_t... I>(std::index_sequence<I...>)->result {
      return std::invoke(f, pass<Ps>(std::get<I>(v))...);
    }
    (std::index_sequence_for<Ps...>{});
  }

 private:
  template <class P, class T>
  static decltype(auto) pass(T& value) {
    if constexpr (std::is_lvalue_reference_v<P>)
      return std::as_const(value);
    else
      return std::move(value);
  }
};

template <class F, class... As>
struct invocation<F, void, As...> {
  static_assert(std::is_invocable_v<F&, argument_value_t<As>...>,
                "carom: this task cannot be called with these arguments");
  static constexpr bool ok = (check_parameter<argument_value_t<As>>::value && ... && true);
  using values = std::tuple<argument_value_t<As>...>;
  using result = std::invoke_result_t<F&, argument_value_t<As>...>;

  static result call(F& f, values& v) {
    return std::apply([&](auto&... x) -> result { return std::invoke(f, std::move(x)...); }, v);
  }
};

template <class F, class... As>
using invocation_of = invocation<F, typename signature<F>::type, As...>;

template <class F, class... As>
using task_result_t = std::remove_cv_t<typename invocation_of<std::decay_t<F>, As...>::result>;

}  // namespace carom::detail

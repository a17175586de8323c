// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <carom/detail/callable.hpp>
#include <carom/detail/code.hpp>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <cstring>
#include <ranges>
#include <span>
#include <typeinfo>

namespace carom::detail {

/// Runs one task in a worker: unpacks the arguments, calls the function, packs what it returns.
/// Throws what the function throws, and encoding_error.
using task_entry = void (*)(std::span<const std::byte> arguments, blob& result);

/// The static facts about one kind of task; lives as long as the module that made it.
struct task_type {
  code_pointer entry;     // a task_entry, or a chunk_entry if `chunked`
  const char* type_name;  // mangled; names a task that has no better name
  bool chunked;
};

/// The function itself, ahead of its arguments: nothing for a stateless object, an address as
/// (module, offset) for a function pointer, the packed state for any other object.
template <class F>
struct function_codec {
  static void pack(blob& out, const F& f) {
    if constexpr (is_function_pointer_v<F>) {
      const code_ref ref = to_code_ref(reinterpret_cast<code_pointer>(f));
      encode(out, ref.module, ref.offset);
    } else if constexpr (!is_stateless_v<F>) {
      encode(out, f);
    }
  }

  static constexpr std::size_t fixed_size = is_function_pointer_v<F> ? code_ref_size : 0;

  static F unpack_pointer(std::span<const std::byte>& in) requires is_function_pointer_v<F> {
    if (in.size() < fixed_size) throw encoding_error("a task's function is cut short");
    code_ref ref;
    std::memcpy(&ref.module, in.data(), sizeof ref.module);
    std::memcpy(&ref.offset, in.data() + sizeof ref.module, sizeof ref.offset);
    in = in.subspan(fixed_size);
    return reinterpret_cast<F>(resolve_code(ref));
  }
};

/// The address that names a task: the function's own where there is one.
template <class F>
code_pointer naming_address([[maybe_unused]] const F& f, code_pointer entry) {
  if constexpr (is_function_pointer_v<F>)
    return reinterpret_cast<code_pointer>(f);
  else
    return entry;
}

/// What is moved in is given away: the handles in it are closed here once they have been packed.
template <class P, class A>
decltype(auto) as_travelling(A&& argument) {
  if constexpr (std::is_same_v<travelling_t<P>, A> && !std::is_trivially_copyable_v<A>)
    return travelling_t<P>(std::move(argument));
  else if constexpr (std::is_same_v<travelling_t<P>, std::remove_cvref_t<A>>)
    return static_cast<const travelling_t<P>&>(argument);
  else if constexpr (!std::is_constructible_v<travelling_t<P>, A>)  // a span's vector
    return travelling_t<P>(std::ranges::begin(argument), std::ranges::end(argument));
  else
    return travelling_t<P>(std::forward<A>(argument));
}

template <class Values, class... As>
void pack_arguments(blob& out, As&&... as) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    encode(out, as_travelling<std::tuple_element_t<I, Values>>(std::forward<As>(as))...);
  }
  (std::index_sequence_for<As...>{});
}

/// A function with its packed arguments, whatever becomes of what it returns.
template <class F, class... As>
struct bare_task {
  using invocation = invocation_of<F, As...>;
  using values = typename invocation::values;
  static_assert(invocation::ok);  // with a sentence of its own

  /// Unpacks both and hands them to `call`.
  template <class Call>
  CAROM_START_PATH static void run(std::span<const std::byte> in, Call call) {
    if constexpr (is_function_pointer_v<F>) {
      F f = function_codec<F>::unpack_pointer(in);
      values v = unpack<values>(in);
      call(f, v);
    } else if constexpr (is_stateless_v<F>) {
      F f{};
      values v = unpack<values>(in);
      call(f, v);
    } else {
      auto all =
          unpack<decltype(std::tuple_cat(std::declval<std::tuple<F>>(), std::declval<values>()))>(
              in);
      std::apply(
          [&](F& f, auto&... rest) {
            values v(std::move(rest)...);
            call(f, v);
          },
          all);
    }
  }

 private:
  template <class Tuple>
  static Tuple unpack(std::span<const std::byte> in) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return decode<std::tuple_element_t<I, Tuple>...>(in);
    }
    (std::make_index_sequence<std::tuple_size_v<Tuple>>{});
  }
};

template <class F, class... As>
struct single_task : bare_task<F, As...> {
  using invocation = typename bare_task<F, As...>::invocation;
  using values = typename bare_task<F, As...>::values;
  using result = std::remove_cv_t<typename invocation::result>;
  static_assert(check_result<result>::value);

  CAROM_START_PATH static void run(std::span<const std::byte> in, blob& out) {
    bare_task<F, As...>::run(in, [&](F& f, values& v) {
      if constexpr (std::is_void_v<result>)
        invocation::call(f, v);
      else
        encode(out, static_cast<const result&>(invocation::call(f, v)));
    });
  }

  static inline const task_type type{reinterpret_cast<code_pointer>(&run), typeid(F).name(), false};
};

}  // namespace carom::detail

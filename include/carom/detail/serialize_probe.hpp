// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <boost/serialization/serialization.hpp>

#include <concepts>
#include <functional>
#include <span>
#include <string_view>
#include <type_traits>

namespace carom::detail {

namespace probe {

struct archive {};
struct no_better_overload {};

/// Competes with Boost's catch-all `serialize(Archive&, T&, unsigned)` and wins against that alone:
/// whatever is written for a T is more specialized, or makes the call ambiguous.
template <class Archive, class T>
requires std::same_as<Archive, archive> no_better_overload serialize(Archive&, T&, const unsigned);

template <class T>
concept only_catch_all = requires(archive& a, T& value,
                                  const boost::serialization::version_type version) {
  { serialize(a, value, version) } -> std::same_as<no_better_overload>;
};

struct named_serialize {
  int serialize;
};
template <class T>
struct both : T, named_serialize {};

/// Looks a name up, not a call: this finds a private member that befriends boost's `access`.
template <class T>
concept has_no_member = requires {
  &both<T>::serialize;
};

template <class T>
concept has_public_member = requires(archive& a, T& value) {
  value.serialize(a, 0u);
};

template <class T>
consteval bool has_member() {
  if constexpr (!std::is_class_v<T>) {
    return false;
  } else if constexpr (std::is_final_v<T>) {
    // Nothing can derive from it to look the name up. A private `serialize` stays unseen, so a
    // final class is given the benefit of the doubt and the compiler complains where it is called.
    return true;
  } else {
    return !has_no_member<T>;
  }
}

}  // namespace probe

/// Whether T has a `serialize` member, or a free function is written for it.
template <class T>
inline constexpr bool has_serialize = !probe::only_catch_all<T> || probe::has_member<T>();

/// Types that refer to what another object owns.
template <class T>
inline constexpr bool is_view = std::is_reference_v<T>;
template <class C, class Traits>
inline constexpr bool is_view<std::basic_string_view<C, Traits>> = true;
template <class T, std::size_t N>
inline constexpr bool is_view<std::span<T, N>> = true;
template <class T>
inline constexpr bool is_view<std::reference_wrapper<T>> = true;

}  // namespace carom::detail

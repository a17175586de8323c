// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/descriptors.hpp>
#include <carom/detail/form.hpp>

namespace carom::detail {

/// What a handle (a lock, a queue, a connection) lets the codec do: its class befriends this and
/// has `void pack(byte_writer&) const` and `static T unpack(byte_reader&)`.
struct handle_access {
  template <class T>
  static void pack(byte_writer& out, const T& handle) {
    handle.pack(out);
  }
  template <class T>
  static T unpack(byte_reader& in) {
    return T::unpack(in);
  }
};

/// The form of a handle: `template <> struct form<lock> : handle_form<lock> {};`. It is made whole
/// from its bytes and descriptors, never by its default constructor, which may be costly.
template <class T>
struct handle_form {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = 1;

  static void save(byte_writer& out, const T& handle) { handle_access::pack(out, handle); }
  static void load(byte_reader& in, T& handle) { handle = handle_access::unpack<T>(in); }
  static T load_whole(byte_reader& in) { return handle_access::unpack<T>(in); }
};

}  // namespace carom::detail

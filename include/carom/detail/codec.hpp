// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <carom/detail/items.hpp>
#include <carom/detail/packed_iarchive.hpp>
#include <carom/detail/packed_oarchive.hpp>
#include <carom/errors.hpp>

#include <carom/detail/start_path.hpp>
#include <concepts>
#include <cstddef>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

namespace carom::detail {

template <class T>
concept serializable = is_serializable_v<T>;

/// Appends the values, one message: an object that two shared_ptr share is one object at the
/// receiver. Throws encoding_error when a value cannot be packed; `out` is then as before.
template <class... Ts>
void encode(blob& out, const Ts&... values) {
  static_assert((travels<Ts>() && ...));
  if constexpr (!(is_serializable_v<Ts> && ...)) {
    // travels() has said why
  } else if constexpr ((is_raw<Ts> && ...)) {
    [[maybe_unused]] std::byte* place = out.extend((std::size_t{0} + ... + sizeof(Ts)));
    ((std::memcpy(place, &values, sizeof values), place += sizeof values), ...);
  } else {
    const std::size_t start = out.size(), attached = out.descriptor_count();
    try {
      if constexpr ((needs_no_archive<Ts> && ...)) {
        byte_writer plain{out};
        (detail::pack(plain, values), ...);
      } else {
        packed_oarchive archive{out};
        (detail::pack_new(archive, values), ...);
      }
    } catch (...) {
      out.resize_uninitialized(start);
      if (out.descriptor_count() > attached) out.descriptors().truncate(attached);
      rethrow_as_encoding_error("packing a value");
    }
  }
}

/// What was moved in and is packed: the handles in it are closed here. One that cannot be moved out
/// of stays as it is.
template <class T>
void give_away(T&& value) noexcept {
  static_assert(std::is_rvalue_reference_v<T&&>);
  if constexpr (!std::is_trivially_copyable_v<T>) try {
      [[maybe_unused]] const T given(std::move(value));
    } catch (...) {
    }
}

/// The values in `bytes`, exactly. Throws encoding_error on corrupt, missing or left-over bytes,
/// and when a user's `serialize` throws.
template <class... Ts>
CAROM_START_PATH std::tuple<Ts...> decode(std::span<const std::byte> bytes) {
  static_assert((travels<Ts>() && ...));
  if constexpr (!(is_serializable_v<Ts> && ...)) {
    // travels() has said why
  } else if constexpr ((needs_no_archive<Ts> && ...)) {
    byte_reader in{bytes};
    if constexpr ((is_raw<Ts> && ...)) {
      auto values = detail::unpack_tuple<Ts...>(in);
      in.expect_end();
      return values;
    } else {
      try {
        auto values = detail::unpack_tuple<Ts...>(in);
        in.expect_end();
        return values;
      } catch (...) {
        rethrow_as_encoding_error("unpacking a value");
      }
    }
  } else {
    try {
      packed_iarchive archive{bytes};
      auto values = detail::unpack_tuple<Ts...>(archive);
      archive.expect_end();
      return values;
    } catch (...) {
      rethrow_as_encoding_error("unpacking a value");
    }
  }
}

/// One of several values that travel together, for `next_value`. Throws as `encode`.
template <class T>
void append_value(blob& out, const T& value) {
  if constexpr (stands_in_frame<T>)
    put_frame(out, [&] { encode(out, value); });
  else
    encode(out, value);
}

/// Throws as `decode`; the values behind this one can be read even so.
template <class T>
T next_value(item_reader& reader) {
  if constexpr (stands_in_frame<T>)
    return std::get<0>(reader.message<T>(reader.next_frame()));
  else
    return reader.next<T>();
}

}  // namespace carom::detail

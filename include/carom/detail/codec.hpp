// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>

#include <cstddef>
#include <span>
#include <tuple>

namespace carom::detail {

/// Appends the values. Throws encoding_error when one cannot be packed; `out` is then as before.
template <class... Ts>
void encode(blob& out, const Ts&... values);

/// The values in `bytes`, exactly. Throws encoding_error on corrupt, missing or left-over bytes.
template <class... Ts>
std::tuple<Ts...> decode(std::span<const std::byte> bytes);

/// Whether a value of the type can be packed: false for what has no `serialize`.
template <class T>
inline constexpr bool is_serializable_v = true;

template <class T>
concept serializable = is_serializable_v<T>;

/// `static_assert(travels<T>())` refuses what cannot be packed with a sentence that names it.
template <class T>
consteval bool travels() {
  return is_serializable_v<T>;
}

/// Packs items one after the other, each independent of the others, without an archive per item.
class item_writer {
 public:
  explicit item_writer(blob& out);
  template <class T>
  void put(const T& item);
  /// The same bytes as `put` of each; one copy for arithmetic.
  template <class T>
  void put_all(std::span<const T> items);
};

/// Reads what item_writer, or `encode` item by item, wrote. Throws encoding_error.
class item_reader {
 public:
  explicit item_reader(std::span<const std::byte> bytes);
  template <class T>
  T next();
  /// Decodes an item and drops it.
  template <class T>
  void skip();
  /// Fills `items`; one copy for arithmetic.
  template <class T>
  void next_all(std::span<T> items);
  bool empty() const noexcept;
  std::size_t position() const noexcept;
};

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/codec.hpp>

#include <cstddef>
#include <span>
#include <typeinfo>

namespace travelling {

/// One value of one kind of type that travels, with something in every part of it, and what a test
/// does with such values.
struct sample_type {
  const std::type_info* type;
  /// Appends the sample.
  void (*encode)(carom::detail::blob&);
  /// Whether the bytes decode to an equal value; throws what `decode` throws.
  bool (*decodes)(std::span<const std::byte>);
  /// Decodes, encodes what came out, and decodes that.
  void (*round_trip)(std::span<const std::byte>);
  void (*put)(carom::detail::item_writer&);
  /// Whether the next item is an equal value.
  bool (*next)(carom::detail::item_reader&);
  void (*skip)(carom::detail::item_reader&);
  /// The same of one value of several that do not disturb each other.
  void (*append)(carom::detail::blob&);
  bool (*next_value)(carom::detail::item_reader&);
};

std::span<const sample_type> sample_types();

}  // namespace travelling

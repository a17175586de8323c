// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <string_view>
#include <typeinfo>

namespace carom::detail {

/// A type that is found by its name on the wire and by its typeid. Entries are static objects that
/// are never destroyed: a library that has one stays loaded from then on.
struct registered_type {
  const std::type_info* type;
  const void* operations;  ///< what the owner of the registry does with such a type
  const char* name = nullptr;
  registered_type* next_by_name = nullptr;
  registered_type* next_by_type = nullptr;
  std::atomic<bool> added = false;
  /// Another type has the same name (both in unnamed namespaces): neither can be told on the wire.
  std::atomic<bool> ambiguous = false;
};

/// Filled during static initialization, also of libraries that are loaded later, while other
/// threads look up: insertion and look-up are lock-free, so a fork never inherits a held lock.
class CAROM_API type_registry {
 public:
  constexpr type_registry() = default;

  /// `name` must live as long as the entry. Adding twice is harmless.
  void add(registered_type& entry, const char* name) noexcept;
  /// Finds `alias.type` too; on the wire it has the name of the other entry.
  void add_alias(registered_type& alias, const registered_type& of) noexcept;
  const registered_type* find(std::string_view name) const noexcept;
  const registered_type* find(const std::type_info& type) const noexcept;

 private:
  static constexpr std::size_t bucket_count = 256;
  using buckets = std::array<std::atomic<registered_type*>, bucket_count>;

  void add_by_type(registered_type& entry) noexcept;

  buckets by_name_{};
  buckets by_type_{};
};

}  // namespace carom::detail

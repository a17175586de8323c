// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/form.hpp>
#include <carom/export.hpp>

#include <cstddef>
#include <iosfwd>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace carom {

/// The secret that both sides of a connection must have (billiard: `authkey`). It is never sent,
/// cannot be printed, and is refused as an argument, result or message: a process inherits it, or
/// reads it from a file of its own. Its memory is wiped when it ends. As thread safe as a vector.
class CAROM_API authkey {
 public:
  /// No key.
  authkey() noexcept = default;
  /// Throws std::invalid_argument for an empty secret, which would authenticate everybody.
  explicit authkey(std::span<const std::byte> secret);
  explicit authkey(std::string_view secret);
  authkey(const authkey&) = default;
  authkey(authkey&&) noexcept = default;
  authkey& operator=(const authkey& other);
  authkey& operator=(authkey&& other) noexcept;
  ~authkey();

  /// 32 bytes of the system's randomness.
  static authkey random();

  bool empty() const noexcept { return secret_.empty(); }
  explicit operator bool() const noexcept { return !secret_.empty(); }
  /// The secret itself: whoever prints or sends it gives it away.
  std::span<const std::byte> bytes() const noexcept { return secret_; }

  friend std::ostream& operator<<(std::ostream&, const authkey&) = delete;

 private:
  void wipe() noexcept;

  std::vector<std::byte> secret_;
};

template <>
struct detail::form<authkey> : detail::no_form {};

template <class T>
requires std::is_same_v<T, authkey>
struct detail::value_that_travels<T> {
  static_assert(!std::is_same_v<T, authkey>,
                "carom: an authkey cannot travel to another process: whoever reads the message "
                "would have the key; let the process inherit it, or read it there");
  static constexpr bool value = true;
};

}  // namespace carom

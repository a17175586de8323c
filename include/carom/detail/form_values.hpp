// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/form.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>

namespace carom::detail {

template <class... Parts>
inline constexpr bool all_travel = (is_serializable_v<Parts> && ...);
template <class... Parts>
inline constexpr bool all_plain = (form<std::remove_cv_t<Parts>>::plain && ...);
template <class... Parts>
inline constexpr std::size_t sum_of_sizes = (std::size_t{0} + ... +
                                             form<std::remove_cv_t<Parts>>::min_size);

/// One part after the other, without a mark between them.
template <class Whole, class... Parts>
struct tuple_form {
  static constexpr bool travels = all_travel<Parts...>;
  static constexpr bool plain = all_plain<Parts...>;
  static constexpr std::size_t min_size = sum_of_sizes<Parts...>;
  using made_of_parts = void;

  template <class Archive>
  static void save(Archive& archive, const Whole& value) {
    std::apply([&](const auto&... parts) { (detail::pack(archive, parts), ...); }, value);
  }
  template <class Archive>
  static void load(Archive& archive, Whole& value) {
    // Boost's loaders of maps read into the pair that a map has, whose key is a constant.
    std::apply(
        [&]<class... Each>(Each&... parts) {
          (detail::unpack(archive, const_cast<std::remove_const_t<Each>&>(parts)), ...);
        },
        value);
  }
  template <class Archive>
  static void save_new(Archive& archive, const Whole& value) {
    std::apply([&](const auto&... parts) { (detail::pack_new(archive, parts), ...); }, value);
  }
  template <class Archive>
  static Whole load_new(Archive& archive) {
    return Whole{detail::unpack_new<Parts>(archive)...};
  }
};

template <class A, class B>
struct form<std::pair<A, B>> : tuple_form<std::pair<A, B>, A, B> {};

template <class... Ts>
struct form<std::tuple<Ts...>> : tuple_form<std::tuple<Ts...>, Ts...> {};

template <>
struct form<std::monostate> {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = 0;

  static void save(byte_writer&, std::monostate) {}
  static void load(byte_reader&, std::monostate&) {}
};

template <class T>
struct form<std::optional<T>> {
  static constexpr bool travels = is_serializable_v<T>;
  static constexpr bool plain = form<T>::plain;
  static constexpr std::size_t min_size = 1;

  template <class Archive>
  static void save(Archive& archive, const std::optional<T>& value) {
    detail::pack(archive, value.has_value());
    if (value) detail::pack_new(archive, *value);
  }
  template <class Archive>
  static void load(Archive& archive, std::optional<T>& value) {
    bool has_value = false;
    detail::unpack(archive, has_value);
    if (!has_value) {
      value.reset();
    } else if constexpr (loads_into_default<T>) {
      detail::unpack(archive, value.emplace());
    } else {
      value.emplace(detail::unpack_new<T>(archive));
    }
  }
};

template <class... Ts>
struct form<std::variant<Ts...>> {
  static_assert(sizeof...(Ts) <= 255, "carom: a variant of more than 255 types cannot travel");
  static constexpr bool travels = all_travel<Ts...>;
  static constexpr bool plain = all_plain<Ts...>;
  static constexpr std::size_t min_size = 1;

  using variant = std::variant<Ts...>;

  template <class Archive>
  static void save(Archive& archive, const variant& value) {
    if (value.valueless_by_exception()) throw_corrupt("a variant holds no value");
    detail::pack(archive, static_cast<std::uint8_t>(value.index()));
    std::visit([&](const auto& held) { detail::pack_new(archive, held); }, value);
  }
  template <class Archive>
  static void load(Archive& archive, variant& value) {
    std::uint8_t index = 0;
    detail::unpack(archive, index);
    if (index >= sizeof...(Ts)) throw_corrupt("a variant has no such alternative");
    load_alternative(archive, value, index, std::index_sequence_for<Ts...>{});
  }

 private:
  template <class Archive, std::size_t... I>
  static void load_alternative(Archive& archive, variant& value, std::size_t index,
                               std::index_sequence<I...>) {
    (void)((index == I && (value.template emplace<I>(
                               detail::unpack_new<std::variant_alternative_t<I, variant>>(archive)),
                           true)) ||
           ...);
  }
};

template <class Rep, class Period>
struct form<std::chrono::duration<Rep, Period>> {
  using duration = std::chrono::duration<Rep, Period>;

  static constexpr bool travels = is_serializable_v<Rep>;
  static constexpr bool plain = form<Rep>::plain;
  static constexpr std::size_t min_size = form<Rep>::min_size;

  template <class Archive>
  static void save(Archive& archive, const duration& value) {
    detail::pack(archive, value.count());
  }
  template <class Archive>
  static void load(Archive& archive, duration& value) {
    Rep count{};
    detail::unpack(archive, count);
    value = duration{count};
  }
};

template <class Clock, class Duration>
struct form<std::chrono::time_point<Clock, Duration>> {
  using time_point = std::chrono::time_point<Clock, Duration>;

  static constexpr bool travels = is_serializable_v<Duration>;
  static constexpr bool plain = form<Duration>::plain;
  static constexpr std::size_t min_size = form<Duration>::min_size;

  template <class Archive>
  static void save(Archive& archive, const time_point& value) {
    detail::pack(archive, value.time_since_epoch());
  }
  template <class Archive>
  static void load(Archive& archive, time_point& value) {
    Duration since_epoch{};
    detail::unpack(archive, since_epoch);
    value = time_point{since_epoch};
  }
};

template <>
struct form<std::filesystem::path> {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = sizeof(std::uint64_t);

  static void save(byte_writer& out, const std::filesystem::path& value) {
    out.put_text(value.native());
  }
  static void load(byte_reader& in, std::filesystem::path& value) { value.assign(in.get_text()); }
};

}  // namespace carom::detail

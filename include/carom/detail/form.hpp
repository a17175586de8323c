// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/byte_stream.hpp>
#include <carom/detail/serialize_probe.hpp>

#include <boost/serialization/is_bitwise_serializable.hpp>
#include <boost/serialization/serialization.hpp>
#include <boost/serialization/version.hpp>

#include <complex>
#include <concepts>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace carom::detail {

/// How a type is packed. Each specialization says
///   `travels`   whether a value can be packed at all,
///   `plain`     whether it is made of arithmetic and standard types only, so that no Boost archive
///   is
///               needed (the bytes are the same either way),
///   `min_size`  bytes it takes at least,
/// and has `save(archive, value)` and `load(archive, value)`. The archive is a byte_writer or
/// byte_reader for plain types, else a packed_oarchive or packed_iarchive.
///
/// The primary template is for everything that brings its own `serialize`. It is called directly:
/// class ids, versions and tracking records do not go on the wire, since both ends are built from
/// the same types, and corrupt ones cannot be checked inside Boost.
template <class T>
struct form {
  static constexpr bool travels = has_serialize<T>;
  static constexpr bool plain = false;
  static constexpr std::size_t min_size = 0;

  template <class Archive>
  static void save(Archive& archive, const T& value) {
    const depth_guard guard{archive.depth()};
    boost::serialization::serialize_adl(archive, const_cast<T&>(value), version);
  }
  template <class Archive>
  static void load(Archive& archive, T& value) {
    const depth_guard guard{archive.depth()};
    boost::serialization::serialize_adl(archive, value, version);
  }

 private:
  static constexpr unsigned version = boost::serialization::version<T>::value;
};

/// A type that never travels, whatever `serialize` is found for it.
struct no_form {
  static constexpr bool travels = false;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = 0;
};

template <class T>
inline constexpr bool is_complex_number = false;
template <class T>
inline constexpr bool is_complex_number<std::complex<T>> = std::is_arithmetic_v<T>;

/// Types whose bytes are their encoding.
template <class T>
inline constexpr bool is_raw = std::is_arithmetic_v<T> || std::is_enum_v<T> ||
                               is_complex_number<T> ||
                               (std::is_class_v<T> &&
                                boost::serialization::is_bitwise_serializable<T>::value &&
                                std::is_trivially_copyable_v<T>);

/// Raw types of which every bit pattern is a value: arrays of them are one copy in both directions.
template <class T>
inline constexpr bool is_bulk = is_raw<T> && !std::is_same_v<T, bool>;

template <class T>
requires is_raw<T>
struct form<T> {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = sizeof(T);

  static void save(byte_writer& out, const T& value) { out.put_raw(value); }
  static void load(byte_reader& in, T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      const auto byte = in.get_raw<unsigned char>();
      if (byte > 1) throw_corrupt("a bool is neither 0 nor 1");
      value = byte != 0;
    } else {
      in.get_raw(value);
    }
  }
};

template <class T>
requires(std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_null_pointer_v<T> ||
         std::is_reference_v<T> || std::is_void_v<T> ||
         std::is_function_v<T>) struct form<T> : no_form {
};

template <class T>
inline constexpr bool is_serializable_v = form<std::remove_cv_t<T>>::travels;

/// Whether a container orders or finds its elements by more than a type, which would be lost.
template <class T>
inline constexpr bool has_stateful_rule = requires {
  requires form<T>::has_stateful_rule;
};

template <class T>
struct container_that_travels {
  static_assert(
      !has_stateful_rule<T>,
      "carom: a container travels without its comparator, hash and equality, which the receiver "
      "makes anew: these must be empty, default-constructible classes (a function object or a "
      "lambda without captures in place of a function pointer)");
  static constexpr bool value = true;
};

/// Instantiated for what is about to travel: the compiler prints the type in its name.
template <class T>
struct value_that_travels {
  static_assert(
      !std::is_pointer_v<T>,
      "carom: a raw pointer cannot travel to another process: it does not say who owns what "
      "it points to; pass the value, a std::string, a std::unique_ptr or a std::shared_ptr");
  static_assert(
      std::is_pointer_v<T> || !is_view<T>,
      "carom: a view or reference cannot travel to another process: it does not own what it "
      "refers to; pass a std::string, a std::vector or the value itself");
  static_assert(container_that_travels<T>::value);  // with a sentence of its own
  static_assert(
      std::is_pointer_v<T> || is_view<T> || has_stateful_rule<T> || is_serializable_v<T>,
      "carom: a value of this type cannot travel to another process; give it (or the element type "
      "inside it) a serialize(Archive&, unsigned) member or free function");
  static constexpr bool value = true;
};

/// `static_assert(travels<T>())` refuses what cannot be packed with a sentence; the compiler's
/// message names the type.
template <class T>
consteval bool travels() {
  return value_that_travels<std::remove_cv_t<T>>::value;
}

/// Packs a value that is unpacked into an existing one.
template <class Archive, class T>
void pack(Archive& archive, const T& value) {
  static_assert(travels<T>());
  if constexpr (!is_serializable_v<T>) {
    // travels() has said why
  } else if constexpr (form<T>::plain) {
    form<T>::save(static_cast<byte_writer&>(archive), value);
  } else {
    form<T>::save(archive, value);
  }
}

template <class Archive, class T>
void unpack(Archive& archive, T& value) {
  static_assert(travels<T>());
  if constexpr (!is_serializable_v<T>) {
    // travels() has said why
  } else if constexpr (form<T>::plain) {
    form<T>::load(static_cast<byte_reader&>(archive), value);
  } else {
    form<T>::load(archive, value);
  }
}

/// Whether values are made from parts that are made themselves: pairs and tuples.
template <class T>
concept made_of_parts = requires {
  typename form<T>::made_of_parts;
};

/// Whether values are unpacked whole, by a function of their form: handles.
template <class T>
concept loads_whole = requires(byte_reader& in) {
  form<T>::load_whole(in);
};

/// Whether values are unpacked into objects made by their default constructor.
template <class T>
concept loads_into_default = std::default_initializable<T> && !loads_whole<T>;

/// What the other side needs to construct the value. It may hold values of the same type.
template <class Archive, class T>
void pack_construction(Archive& archive, const T& value) {
  const depth_guard guard{archive.depth()};
  boost::serialization::save_construct_data_adl(archive, std::addressof(value),
                                                boost::serialization::version<T>::value);
}

/// Packs a value that the other side has to construct: an element, an argument, what a pointer
/// owns. Types without a public default constructor go through Boost's `save_construct_data`.
template <class Archive, class T>
void pack_new(Archive& archive, const T& value) {
  if constexpr (!std::default_initializable<T> && !loads_whole<T> && is_serializable_v<T>) {
    if constexpr (made_of_parts<T>) return form<T>::save_new(archive, value);
    detail::pack_construction(archive, value);
  }
  detail::pack(archive, value);
}

/// Default-constructs at `place`, by Boost's `load_construct_data` where there is no public way.
template <class Archive, class T>
void construct_at(Archive& archive, T* place) {
  if constexpr (std::default_initializable<T>) {
    ::new (static_cast<void*>(place)) T();
  } else {
    const depth_guard guard{archive.depth()};
    boost::serialization::load_construct_data_adl(archive, place,
                                                  boost::serialization::version<T>::value);
  }
}

template <class T, class Archive>
T unpack_new(Archive& archive) {
  if constexpr (loads_whole<T>) {
    return form<T>::load_whole(static_cast<byte_reader&>(archive));
  } else if constexpr (std::default_initializable<T>) {
    T value{};
    detail::unpack(archive, value);
    return value;
  } else if constexpr (made_of_parts<T>) {
    return form<T>::load_new(archive);
  } else {
    union slot {
      slot() {}
      ~slot() {}
      T value;
    } place;
    detail::construct_at(archive, std::addressof(place.value));
    const std::unique_ptr<T, void (*)(T*)> guard{std::addressof(place.value),
                                                 [](T* value) { std::destroy_at(value); }};
    detail::unpack(archive, place.value);
    return std::move(place.value);
  }
}

}  // namespace carom::detail

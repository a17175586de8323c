// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/codec.hpp>
#include <carom/detail/type_registry.hpp>
#include <carom/export.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <span>
#include <string>
#include <type_traits>
#include <typeinfo>

namespace carom::detail {

/// How an exception type travels. Each function may throw what it likes.
struct exception_operations {
  /// Appends what the type needs beyond its text. `exception` holds exactly this type, or this type
  /// with a nested cause.
  void (*save)(blob& out, const std::exception_ptr& exception);
  /// Throws the exception; with `has_cause`, with the one in flight as its nested exception.
  void (*raise)(std::span<const std::byte> bytes, const std::string& what, bool has_cause);
};

/// Exception types by mangled name, and by typeid also with a nested cause.
CAROM_API type_registry& exception_types() noexcept;

template <class T>
concept made_from_text =
    std::constructible_from<T, std::string> || std::constructible_from<T, const char*>;

template <class T>
T exception_from_text(const std::string& what) {
  if constexpr (std::constructible_from<T, std::string>)
    return T(what);
  else
    return T(what.c_str());
}

/// Whether std::throw_with_nested makes a new type of T and its cause.
template <class T>
inline constexpr bool takes_cause =
    std::is_class_v<T> && !std::is_final_v<T> && !std::is_base_of_v<std::nested_exception, T>;

#if defined(_LIBCPP_VERSION)
template <class T>
using with_cause = std::__nested<T>;
#else
template <class T>
using with_cause = std::_Nested_exception<T>;
#endif

template <class T>
[[noreturn]] void raise_exception(T&& exception, bool has_cause) {
  if (has_cause) std::throw_with_nested(std::forward<T>(exception));
  throw std::forward<T>(exception);
}

/// The exception itself, by the language's own look-up: it need not derive from std::exception.
template <class T, class F>
void with_exception(const std::exception_ptr& exception, F use) {
  try {
    std::rethrow_exception(exception);
  } catch (const T& held) {
    use(held);
  }
}

/// Unlike `has_serialize`, no benefit of the doubt for final classes: there is what() to travel by.
template <class T>
inline constexpr bool serializes_itself = std::is_class_v<T>&& has_serialize<T> &&
                                          (!std::is_final_v<T> || !probe::only_catch_all<T> ||
                                           probe::has_public_member<T>);

template <class T>
struct exception_travel {
  static_assert(
      serializes_itself<T> || made_from_text<T>,
      "carom: CAROM_EXCEPTION needs a type with serialize(Archive&, unsigned), or one that "
      "is constructible from the std::string that its what() gives");

  static void save(blob& out, const std::exception_ptr& exception) {
    if constexpr (serializes_itself<T>) {
      with_exception<T>(exception, [&out](const T& held) {
        packed_oarchive archive{out};
        if constexpr (made_from_text<T>)
          detail::pack(archive, held);
        else
          detail::pack_new(archive, held);
      });
    }
  }
  static void raise(std::span<const std::byte> bytes, const std::string& what, bool has_cause) {
    raise_exception(unpack(bytes, what), has_cause);
  }

 private:
  static T unpack(std::span<const std::byte> bytes, const std::string& what) {
    try {
      packed_iarchive archive{bytes};
      T exception = make(archive, what);
      archive.expect_end();
      return exception;
    } catch (const encoding_error&) {
      throw;
    } catch (const std::exception& e) {
      // Told apart from the exception that it should have become.
      throw encoding_error("the exception of the task, '" + what +
                           "', cannot be unpacked: " + e.what());
    }
  }
  static T make(packed_iarchive& archive, const std::string& what) {
    if constexpr (!made_from_text<T>) {
      return detail::unpack_new<T>(archive);
    } else {
      T exception = exception_from_text<T>(what);
      if constexpr (serializes_itself<T>) detail::unpack(archive, exception);
      return exception;
    }
  }
};

/// The entry of one type. `Travel` has `save` and `raise`.
template <class T, class Travel = exception_travel<T>>
struct registered_exception {
  static constexpr exception_operations operations{Travel::save, Travel::raise};
  static constinit inline registered_type entry{.type = &typeid(T), .operations = &operations};

  static void add() noexcept {
    exception_types().add(entry, typeid(T).name());
    if constexpr (takes_cause<T>) {
      // libstdc++ keeps the const of an exception that is nested as a constant
      add_alias<with_cause<T>>();
      add_alias<with_cause<const T>>();
    }
  }

 private:
  template <class Nested>
  static void add_alias() noexcept {
    static constinit registered_type alias{.type = &typeid(Nested), .operations = &operations};
    exception_types().add_alias(alias, entry);
  }
};

template <class T>
struct exception_registrar {
  exception_registrar() noexcept { registered_exception<T>::add(); }
};

}  // namespace carom::detail

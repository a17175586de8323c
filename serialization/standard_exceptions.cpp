// SPDX-License-Identifier: BSL-1.0
#include "serialization/standard_exceptions.hpp"

#include "serialization/remote_category.hpp"

#include <carom/detail/exception_registry.hpp>
#include <carom/errors.hpp>

#include <any>
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <typeinfo>
#include <variant>

namespace carom::serialization {

namespace {

using detail::raise_exception;
using detail::with_exception;
using bytes = std::span<const std::byte>;

/// Exceptions without any state: the type says it all.
template <class T>
struct bare_travel {
  static void save(detail::blob&, const std::exception_ptr&) {}
  static void raise(bytes payload, const std::string&, bool has_cause) {
    detail::decode<>(payload);
    raise_exception(T{}, has_cause);
  }
};

/// carom's errors that are built from a plain struct.
template <class T>
struct info_travel {
  static void save(detail::blob& out, const std::exception_ptr& exception) {
    with_exception<T>(exception, [&out](const T& held) { detail::encode(out, held.info()); });
  }
  static void raise(bytes payload, const std::string&, bool has_cause) {
    using info = std::remove_cvref_t<decltype(std::declval<const T&>().info())>;
    raise_exception(T{std::get<0>(detail::decode<info>(payload))}, has_cause);
  }
};

/// The categories whose codes mean the same in every process.
std::array<const std::error_category*, 4> known_categories() {
  return {&std::generic_category(), &std::system_category(), &std::iostream_category(),
          &std::future_category()};
}

/// A system_error taken apart: its constructor appends the code's message to the text.
struct system_error_parts {
  std::uint8_t category = 0;
  int value = 0;
  bool has_text = false;
  std::string text;
  std::optional<remote_code> remote;  // of a category that the receiver does not have

  static system_error_parts of(const std::system_error& error) {
    system_error_parts parts;
    const auto categories = known_categories();
    while (parts.category < categories.size() &&
           *categories[parts.category] != error.code().category())
      ++parts.category;
    parts.value = error.code().value();
    if (parts.category == categories.size()) parts.remote = remote_code::of(error.code());
    const std::string message = error.code().message();
    parts.text = error.std::system_error::what();  // filesystem_error adds its paths to that
    parts.has_text = parts.text.ends_with(": " + message);
    if (parts.has_text) parts.text.resize(parts.text.size() - message.size() - 2);
    return parts;
  }
  std::error_code code() const {
    if (remote) return make_code(*remote);
    if (category >= known_categories().size()) detail::throw_corrupt("no such error category");
    return {value, *known_categories()[category]};
  }

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& category& value& has_text& text& remote;
  }
};

template <class T>
struct system_error_travel {
  static void save(detail::blob& out, const std::exception_ptr& exception) {
    with_exception<T>(exception,
                      [&out](const T& held) { detail::encode(out, system_error_parts::of(held)); });
  }
  static void raise(bytes payload, const std::string&, bool has_cause) {
    const auto [parts] = detail::decode<system_error_parts>(payload);
    if constexpr (std::constructible_from<T, std::error_code>)
      if (!parts.has_text) raise_exception(T{parts.code()}, has_cause);
    if constexpr (std::constructible_from<T, std::error_code, std::string>)
      raise_exception(T{parts.code(), parts.text}, has_cause);
    else
      raise_exception(T{parts.text, parts.code()}, has_cause);
  }
};

struct filesystem_error_travel {
  using error = std::filesystem::filesystem_error;

  static void save(detail::blob& out, const std::exception_ptr& exception) {
    with_exception<error>(exception, [&out](const error& held) {
      detail::encode(out, system_error_parts::of(held), held.path1(), held.path2());
    });
  }
  static void raise(bytes payload, const std::string&, bool has_cause) {
    using path = std::filesystem::path;
    const auto [parts, path1, path2] = detail::decode<system_error_parts, path, path>(payload);
    if (path1.empty() && path2.empty()) raise_exception(error{parts.text, parts.code()}, has_cause);
    if (path2.empty()) raise_exception(error{parts.text, path1, parts.code()}, has_cause);
    raise_exception(error{parts.text, path1, path2, parts.code()}, has_cause);
  }
};

struct future_error_travel {
  static void save(detail::blob& out, const std::exception_ptr& exception) {
    with_exception<std::future_error>(exception, [&out](const std::future_error& held) {
      detail::encode(out, held.code().value());
    });
  }
  static void raise(bytes payload, const std::string&, bool has_cause) {
    const auto [code] = detail::decode<int>(payload);
    raise_exception(std::future_error{static_cast<std::future_errc>(code)}, has_cause);
  }
};

template <template <class> class Travel, class... Ts>
void add() noexcept {
  (detail::registered_exception<Ts, Travel<Ts>>::add(), ...);
}

}  // namespace

void add_standard_exceptions() noexcept {
  add<detail::exception_travel, std::logic_error, std::domain_error, std::invalid_argument,
      std::length_error, std::out_of_range, std::runtime_error, std::range_error,
      std::overflow_error, std::underflow_error>();
  add<bare_travel, std::exception, std::bad_exception, std::bad_alloc, std::bad_array_new_length,
      std::bad_cast, std::bad_typeid, std::bad_function_call, std::bad_optional_access,
      std::bad_variant_access, std::bad_any_cast, std::bad_weak_ptr>();
  add<system_error_travel, std::system_error, std::ios_base::failure>();
  detail::registered_exception<std::filesystem::filesystem_error, filesystem_error_travel>::add();
  detail::registered_exception<std::future_error, future_error_travel>::add();
  add<detail::exception_travel, error, process_error, timeout_error, authentication_error,
      encoding_error, queue_empty, queue_full, pool_closed, start_method_error, broken_barrier,
      coro_stop>();
  add<info_travel, buffer_too_short, time_limit_exceeded, soft_time_limit_exceeded, worker_lost,
      terminated, restart_freq_exceeded, memory_limit_exceeded, remote_error, unknown_task>();
}

}  // namespace carom::serialization

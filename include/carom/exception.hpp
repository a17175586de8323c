// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/exception_registry.hpp>

/// Lets exceptions of a type come back from a task as themselves. At namespace scope, in the
/// translation unit (or header) that defines the type:
///
///     struct quota_exceeded : std::runtime_error { using std::runtime_error::runtime_error; };
///     CAROM_EXCEPTION(quota_exceeded);
///
/// The type travels by its `serialize(Archive&, unsigned)` where it has one, and otherwise by
/// `what()`, from which it must then be constructible (`std::string` or `const char*`). With both,
/// it is built from `what()` first. Only exactly this type is meant; derived types need their own
/// line.
#define CAROM_EXCEPTION(...)                                                      \
  [[maybe_unused]] static const ::carom::detail::exception_registrar<__VA_ARGS__> \
  CAROM_EXCEPTION_NAME(__COUNTER__) {}

#define CAROM_EXCEPTION_NAME(number) CAROM_EXCEPTION_JOIN(carom_exception_, number)
#define CAROM_EXCEPTION_JOIN(prefix, number) prefix##number

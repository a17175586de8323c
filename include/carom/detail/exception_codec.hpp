// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <carom/export.hpp>

#include <cstddef>
#include <exception>
#include <span>

namespace carom::detail {

/// How many exceptions of a chain of nested ones travel; causes below that are dropped.
inline constexpr int max_exception_chain = 16;

/// Appends the exception with its nested causes. Standard exceptions, carom's errors and types
/// named in CAROM_EXCEPTION keep their type; any other travels as a `remote_error` with its type's
/// name, its text and `pid`. Whatever fails on the way (a throwing `serialize`, no memory) falls
/// back to that. A null pointer stands for what is no exception of C++, and
/// travels as a `remote_error` that says so.
CAROM_API void encode_exception(blob& out, const std::exception_ptr& exception, int pid) noexcept;

/// What the `catch (...)` that calls this has caught, once; never null. An exception of another
/// language is a `remote_error`, and gone: there is nothing to `throw;` behind this. An unwinding
/// that must not be stopped (pthread_exit, pthread_cancel) ends in abort(): the frames below are a
/// fork server's.
CAROM_API std::exception_ptr caught_exception() noexcept;

/// The exception in `bytes`, exactly; corrupt bytes give an `encoding_error`. Never null.
CAROM_API std::exception_ptr decode_exception(std::span<const std::byte> bytes) noexcept;

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>
#include <cstdint>
#include <string>

namespace carom::detail {

/// Where a function lies, in a form that means the same in every process made of the same binaries:
/// an index into the sender's list of loaded modules and an offset into that module.
struct code_ref {
  std::uint64_t module = 0;
  std::uint64_t offset = 0;

  friend bool operator==(const code_ref&, const code_ref&) = default;
};

using code_pointer = void (*)();

/// Describes `code` for the processes that this one feeds. Thread-safe; cheap after the first call
/// for an address. Throws unknown_task if it lies in no loaded module.
CAROM_API code_ref to_code_ref(code_pointer code);

/// The function that the sender meant. Throws unknown_task unless it lies in the executable part of
/// a module that has the sender's build-id.
CAROM_API code_pointer resolve_code(code_ref ref);

/// A readable name: the registered one, else the symbol's, else `fallback` demangled.
CAROM_API std::string code_name(code_pointer function, const char* fallback);

/// Gives `function` a name that is stable between binaries. See carom::register_task.
CAROM_API void register_code_name(code_pointer function, std::string name);

}  // namespace carom::detail

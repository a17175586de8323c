// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>

namespace carom::runtime {

/// A function in a module's file, by the symbol table that debuggers use: also functions that are
/// not exported, unless the file was stripped.
struct symbol {
  std::string name;          // demangled; empty if nothing is known
  std::uint64_t offset = 0;  // from the function's first byte
};

/// What stands at `offset`, counted from the module's base. Reads the file: not for hot paths.
symbol find_symbol(const std::string& path, std::uint64_t offset);

}  // namespace carom::runtime

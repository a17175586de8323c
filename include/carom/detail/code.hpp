// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
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

/// Bytes that a code_ref takes ahead of a task's arguments.
inline constexpr std::size_t code_ref_size = 2 * sizeof(std::uint64_t);

/// The same place for this process itself: `resolve_code` reads it by this process's own list of
/// modules, whoever feeds it.
constexpr code_ref own_ref(code_ref made_here) noexcept {
  return {made_here.module | std::uint64_t{1} << 63, made_here.offset};
}

/// The function that the sender meant. Throws unknown_task unless it lies in the executable part of
/// a module that has the sender's build-id.
CAROM_API code_pointer resolve_code(code_ref ref);

/// A function as anybody can be told of it, whatever modules the other process has.
struct told_code {
  std::string build_id;
  std::uint64_t offset = 0;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& build_id& offset;
  }
};

/// Throws unknown_task if `code` lies in no loaded module.
CAROM_API told_code tell_code(code_pointer code);

/// Throws unknown_task unless the place is in the executable part of a module of that build that is
/// loaded here.
CAROM_API code_pointer find_code(const told_code& told);

/// A function by the name that a program gave it.
struct named_code {
  code_pointer function;
  code_pointer entry;     // a task_entry that calls it, null if it cannot be a task
  const char* type_name;  // mangled, of the pointer to it
};

/// The name that `function` has been given; empty if none.
CAROM_API std::string registered_name(code_pointer function);
/// Nothing if no task of that type has that name here.
CAROM_API std::optional<named_code> find_named_code(const std::string& name,
                                                    const std::string& type_name);

/// A readable name: the registered one, else the symbol's, else `fallback` demangled.
CAROM_API std::string code_name(code_pointer function, const char* fallback);

/// Gives `function` a name that is stable between binaries. See carom::register_task.
CAROM_API void register_code_name(const named_code& code, std::string name);

}  // namespace carom::detail

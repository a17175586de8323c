// SPDX-License-Identifier: BSL-1.0
#include <cxxabi.h>
#include <dlfcn.h>

#include <carom/detail/code.hpp>
#include <carom/errors.hpp>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/modules.hpp"
#include "runtime/symbols.hpp"

namespace carom::detail {

namespace {

/// By build and offset: an address is another function's once a library was closed and another
/// opened.
using place = std::pair<std::string, std::uint64_t>;

struct registered {
  std::string name;
  place entry;
  bool has_entry = false;
  std::string type_name;
};

struct registry {
  std::mutex mutex;
  std::map<place, registered> names;
  std::map<place, std::string> unexported;
};

registry& known() {
  static auto* const one = new registry;
  return *one;
}

/// Nothing if it lies in no module.
place place_of(code_pointer function) {
  try {
    told_code told = tell_code(function);
    return {std::move(told.build_id), told.offset};
  } catch (const unknown_task&) {
    return {};
  }
}

std::string demangle(const char* mangled) {
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  return status == 0 && text ? text.get() : mangled;
}

/// `(anonymous namespace)::f(int (*)(int))` is `(anonymous namespace)::f`.
std::string without_parameters(const std::string& name) {
  const std::size_t last = name.rfind(')');
  if (last == std::string::npos) return name;
  int depth = 0;
  for (std::size_t at = last + 1; at-- > 0;) {
    if (name[at] == ')') ++depth;
    if (name[at] == '(' && --depth == 0) return at == 0 ? name : name.substr(0, at);
  }
  return name;
}

/// The name of a function that the dynamic linker does not know; empty if there is none. Kept, as
/// it comes from the file.
std::string unexported_name(code_pointer function, const place& at) {
  auto& all = known();
  {
    std::lock_guard lock(all.mutex);
    if (const auto it = all.unexported.find(at); it != all.unexported.end()) return it->second;
  }
  std::string name;
  const code_ref ref = to_code_ref(function);
  const runtime::symbol found =
      runtime::find_symbol(runtime::module_at(ref.module).path, ref.offset);
  if (found.offset == 0 && !found.name.empty() && !found.name.starts_with("carom::detail::"))
    name = without_parameters(found.name);
  std::lock_guard lock(all.mutex);
  if (all.unexported.size() < 10'000) all.unexported.emplace(at, name);
  return name;
}

}  // namespace

std::string registered_name(code_pointer function) {
  auto& all = known();
  {
    std::lock_guard lock(all.mutex);
    if (all.names.empty()) return {};
  }
  const place at = place_of(function);
  std::lock_guard lock(all.mutex);
  const auto it = all.names.find(at);
  return it != all.names.end() ? it->second.name : std::string();
}

std::string code_name(code_pointer function, const char* fallback) {
  if (std::string name = registered_name(function); !name.empty()) return name;
  ::Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(function), &info) && info.dli_sname &&
      info.dli_saddr == reinterpret_cast<void*>(function)) {
    std::string name = demangle(info.dli_sname);
    // The entry of a lambda or function object is carom's own: its type says more.
    if (!name.starts_with("carom::detail::")) return without_parameters(name);
  }
  if (const place at = place_of(function); !at.first.empty())
    if (std::string name = unexported_name(function, at); !name.empty()) return name;
  return demangle(fallback);
}

std::optional<named_code> find_named_code(const std::string& name, const std::string& type_name) {
  auto& all = known();
  std::lock_guard lock(all.mutex);
  for (const auto& [at, one] : all.names) {
    if (one.name != name || one.type_name != type_name || !one.has_entry) continue;
    try {
      return named_code{.function = find_code({at.first, at.second}),
                        .entry = find_code({one.entry.first, one.entry.second}),
                        .type_name = nullptr};
    } catch (const unknown_task&) {
      // of a library that has been closed
    }
  }
  return std::nullopt;
}

void register_code_name(const named_code& code, std::string name) {
  place at = place_of(code.function);
  registered one{.name = std::move(name), .entry = {}, .type_name = code.type_name};
  if (code.entry) {
    one.entry = place_of(code.entry);
    one.has_entry = true;
  }
  auto& all = known();
  std::lock_guard lock(all.mutex);
  all.names.insert_or_assign(std::move(at), std::move(one));
}

}  // namespace carom::detail

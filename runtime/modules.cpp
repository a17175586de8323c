// SPDX-License-Identifier: BSL-1.0
#include "runtime/modules.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <cstdio>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>

#include "runtime/symbols.hpp"

namespace carom::runtime {
namespace {

using address = std::uintptr_t;

struct range {
  address begin;
  address end;
};

/// How often modules were loaded and unloaded: as long as it is the same, they are the same.
using load_counts = std::pair<unsigned long long, unsigned long long>;

struct module {
  module_info info;
  address base = 0;
  std::vector<range> executable;
  bool is_program = false;  // which is never unloaded
  bool loaded = true;

  bool contains(address at) const {
    return std::any_of(executable.begin(), executable.end(),
                       [at](range r) { return at >= r.begin && at < r.end; });
  }
};

/// The modules of this process in the order in which they were met; an index stays valid: it
/// belongs to a build at a path, wherever that is loaded, or to none while it is not.
struct module_table {
  std::mutex mutex;
  std::deque<module> known;
  load_counts counts;  // as of the last scan
  std::atomic<std::size_t> count{0};
};

module_table& table() {
  static auto* one = new module_table;  // outlives whatever ends late
  return *one;
}

struct peer_module {
  bool resolved = false;
  module local;
};

std::vector<peer_module>& peers() {
  static auto* one = new std::vector<peer_module>;
  return *one;
}

std::string hex(std::span<const unsigned char> bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

/// The GNU build-id note of a loaded module.
std::string find_build_id(const dl_phdr_info& loaded) {
  for (int i = 0; i < loaded.dlpi_phnum; ++i) {
    const auto& header = loaded.dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    address at = loaded.dlpi_addr + header.p_vaddr;
    const address end = at + header.p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      const auto& note = *reinterpret_cast<const ElfW(Nhdr)*>(at);
      const address name = at + sizeof note;
      const address content = name + (note.n_namesz + 3) / 4 * 4;
      if (content + note.n_descsz > end) break;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4)
        return hex({reinterpret_cast<const unsigned char*>(content), note.n_descsz});
      at = content + (note.n_descsz + 3) / 4 * 4;
    }
  }
  return {};
}

/// For modules linked without a build-id: the file itself.
std::string file_identity(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return "file:" + path;
  return "file:" + path + ":" + std::to_string(status.st_size) + ":" +
         std::to_string(status.st_mtim.tv_sec) + "." + std::to_string(status.st_mtim.tv_nsec);
}

std::string own_path() {
  std::array<char, 4096> path{};
  const auto length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : "";
}

module describe(const dl_phdr_info& loaded) {
  module found;
  found.base = loaded.dlpi_addr;
  found.is_program = !loaded.dlpi_name || !*loaded.dlpi_name;
  found.info.path = found.is_program ? own_path() : loaded.dlpi_name;
  found.info.build_id = find_build_id(loaded);
  if (found.info.build_id.empty()) found.info.build_id = file_identity(found.info.path);
  for (int i = 0; i < loaded.dlpi_phnum; ++i) {
    const auto& header = loaded.dlpi_phdr[i];
    if (header.p_type == PT_LOAD && (header.p_flags & PF_X))
      found.executable.push_back(
          {loaded.dlpi_addr + header.p_vaddr, loaded.dlpi_addr + header.p_vaddr + header.p_memsz});
  }
  return found;
}

load_counts count_loads() {
  load_counts counts;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<load_counts*>(out) = {info->dlpi_adds, info->dlpi_subs};
        return 1;
      },
      &counts);
  return counts;
}

std::vector<module> look_at_modules() {
  std::vector<module> found;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        static_cast<std::vector<module>*>(out)->push_back(describe(*info));
        return 0;
      },
      &found);
  return found;
}

/// The modules of this process. Looking at them touches each: workers inherit what their fork
/// server saw.
std::vector<module> loaded_modules() {
  struct known {
    std::mutex mutex;
    load_counts counts;
    std::vector<module> modules;
  };
  static auto* const last = new known;
  const load_counts counts = count_loads();
  std::lock_guard lock(last->mutex);
  if (last->modules.empty() || last->counts != counts) {
    last->modules = look_at_modules();
    last->counts = counts;
  }
  return last->modules;
}

/// Adds what is not known yet and marks what has gone; the caller holds the lock.
void scan_locked(module_table& t) {
  const load_counts counts = count_loads();
  if (!t.known.empty() && t.counts == counts) return;
  t.counts = counts;
  std::vector<module> found = loaded_modules();
  for (module& known : t.known) known.loaded = false;
  const auto take_place = [&t](module& one, bool of_same_base) {
    const auto it = std::find_if(t.known.begin(), t.known.end(), [&](const module& known) {
      return !known.loaded && known.info.build_id == one.info.build_id &&
             known.info.path == one.info.path && (!of_same_base || known.base == one.base);
    });
    if (it == t.known.end()) return false;
    *it = std::move(one);
    return true;
  };
  // Only then those that came back elsewhere: the same build may be loaded twice.
  std::erase_if(found, [&](module& one) { return take_place(one, true); });
  for (module& one : found)
    if (!take_place(one, false)) t.known.push_back(std::move(one));
  t.count.store(t.known.size(), std::memory_order_release);
}

std::optional<detail::code_ref> find_locked(module_table& t, address at) {
  for (std::size_t i = 0; i < t.known.size(); ++i)
    if (t.known[i].loaded && t.known[i].contains(at))
      return detail::code_ref{i, at - t.known[i].base};
  return std::nullopt;
}

/// Never unloaded from here on: the peer's addresses mean what lies in it.
peer_module kept_open(const module& found) {
  if (!found.is_program && found.info.path.find('/') != std::string::npos)
    (void)::dlopen(found.info.path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  return {true, found};
}

peer_module find_here(const module_info& wanted) {
  const auto search = [&]() -> peer_module {
    for (const module& m : loaded_modules())
      if (m.info.build_id == wanted.build_id) return kept_open(m);
    return {};
  };
  peer_module found = search();
  if (!found.resolved && !wanted.path.empty() &&
      ::dlopen(wanted.path.c_str(), RTLD_NOW | RTLD_GLOBAL))
    found = search();
  return found;
}

}  // namespace

std::size_t module_count() noexcept { return table().count.load(std::memory_order_acquire); }

module_info module_at(std::size_t index) {
  auto& t = table();
  std::lock_guard lock(t.mutex);
  return t.known.at(index).info;
}

void scan_modules() {
  auto& t = table();
  std::lock_guard lock(t.mutex);
  scan_locked(t);
}

void inherit_peer_modules() {
  auto& t = table();
  std::lock_guard lock(t.mutex);
  peers().clear();
  // Looked for as well: one that was known once may have been unloaded since.
  for (const module& known : t.known) peers().push_back(find_here(known.info));
}

CAROM_START_PATH void set_peer_modules(const std::vector<module_info>& modules,
                                       std::size_t inherited) {
  if (inherited > peers().size())
    throw std::length_error("set_peer_modules: so many modules have not been inherited");
  peers().resize(inherited);
  if (modules.empty()) return;
  const auto here = loaded_modules();
  for (const module_info& wanted : modules) {
    auto it = std::find_if(here.begin(), here.end(),
                           [&](const module& m) { return m.info.build_id == wanted.build_id; });
    peers().push_back(it != here.end() ? kept_open(*it) : find_here(wanted));
  }
}

void add_peer_module(const module_info& module) { peers().push_back(find_here(module)); }

peer_address peer_offset(std::uintptr_t address) noexcept {
  const auto& known = peers();
  for (std::size_t i = 0; i < known.size(); ++i)
    if (known[i].resolved && known[i].local.contains(address))
      return {static_cast<std::uint32_t>(i), address - known[i].local.base};
  return {UINT32_MAX, address};
}

std::string describe_code(peer_address where, bool is_return_address) {
  std::string path;
  if (where.module < module_count()) path = module_at(where.module).path;
  const symbol found =
      path.empty() ? symbol{} : find_symbol(path, where.offset - (is_return_address ? 1 : 0));
  std::array<char, 32> number{};
  std::snprintf(number.data(), number.size(), "0x%llx",
                static_cast<unsigned long long>(found.name.empty() ? where.offset : found.offset));
  const std::string file = path.substr(path.rfind('/') + 1);
  if (found.name.empty()) return (file.empty() ? "?" : file) + " + " + number.data();
  return found.name + " + " + number.data() + " in " + file;
}

}  // namespace carom::runtime

namespace carom::detail {

using namespace carom::runtime;

code_ref to_code_ref(code_pointer code) {
  // The same few functions are sent again and again; a direct-mapped cache finds them.
  struct entry {
    code_pointer code = nullptr;
    code_ref ref;
    bool stays = false;
    load_counts counts;
  };
  constexpr std::size_t entries = 64;
  thread_local std::array<entry, entries> cache;
  const auto at = reinterpret_cast<std::uintptr_t>(code);
  entry& cached = cache[(at >> 4 ^ at >> 10) % entries];
  if (cached.code == code && code && (cached.stays || cached.counts == count_loads()))
    return cached.ref;

  auto& t = table();
  std::lock_guard lock(t.mutex);
  scan_locked(t);  // another library may lie there now
  const auto found = find_locked(t, at);
  if (!found)
    throw unknown_task({.task_name = {},
                        .reason = "its address lies in no loaded module: pass a function of the "
                                  "program or of a shared library"});
  cached = {code, *found, t.known[found->module].is_program, t.counts};
  return *found;
}

CAROM_START_PATH code_pointer resolve_code(code_ref ref) {
  const auto& known = peers();
  const bool is_own = own_ref(ref) == ref;
  // In a process that is nobody's worker, addresses are its own.
  if (known.empty() || is_own) {
    if (is_own) ref.module ^= own_ref({}).module;
    auto& t = table();
    std::lock_guard lock(t.mutex);
    scan_locked(t);
    if (ref.module < t.known.size()) {
      const auto& m = t.known[ref.module];
      if (m.loaded && m.contains(m.base + ref.offset))
        return reinterpret_cast<code_pointer>(m.base + ref.offset);
    }
  } else if (ref.module < known.size() && known[ref.module].resolved) {
    const auto& m = known[ref.module].local;
    if (m.contains(m.base + ref.offset)) return reinterpret_cast<code_pointer>(m.base + ref.offset);
  }
  throw unknown_task(
      {.task_name = {},
       .reason = "it is not in this process: sender and worker must be the same binary, or the "
                 "library that holds it must be loadable from its path in the worker"});
}

told_code tell_code(code_pointer code) {
  const code_ref ref = to_code_ref(code);
  return {module_at(ref.module).build_id, ref.offset};
}

code_pointer find_code(const told_code& told) {
  auto& t = table();
  std::lock_guard lock(t.mutex);
  scan_locked(t);
  for (const module& m : t.known)
    if (m.loaded && m.info.build_id == told.build_id && m.contains(m.base + told.offset))
      return reinterpret_cast<code_pointer>(m.base + told.offset);
  throw unknown_task(
      {.task_name = {},
       .reason = "it is not in this process: both sides must be the same binary, or have loaded "
                 "the same library, or give the function the same name with register_task"});
}

}  // namespace carom::detail

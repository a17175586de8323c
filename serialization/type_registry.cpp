// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/type_registry.hpp>

#include <dlfcn.h>
#include <link.h>

#include <functional>

namespace carom::detail {

namespace {

void push(std::atomic<registered_type*>& head, registered_type& entry,
          registered_type*(registered_type::*next)) noexcept {
  registered_type* first = head.load(std::memory_order_relaxed);
  do {
    entry.*next = first;
  } while (!head.compare_exchange_weak(first, &entry, std::memory_order_release,
                                       std::memory_order_relaxed));
}

/// The library that has the entry is never unloaded: besides the entry, exceptions and objects of
/// its types may be anywhere. Compilers mark most such libraries so, but not all do.
void keep_loaded(const registered_type& entry) noexcept {
  static constinit std::atomic<const link_map*> last = nullptr;
  ::Dl_info found{};
  link_map* library = nullptr;
  if (!::dladdr1(&entry, &found, reinterpret_cast<void**>(&library), RTLD_DL_LINKMAP) || !library)
    return;
  if (!library->l_name || !*library->l_name) return;  // the program
  if (last.exchange(library, std::memory_order_relaxed) == library) return;
  (void)::dlopen(library->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

}  // namespace

void type_registry::add(registered_type& entry, const char* name) noexcept {
  if (entry.added.exchange(true, std::memory_order_relaxed)) return;
  keep_loaded(entry);
  entry.name = name;
  add_by_type(entry);
  auto& head = by_name_[std::hash<std::string_view>{}(name) % bucket_count];
  push(head, entry, &registered_type::next_by_name);
  for (auto* other = entry.next_by_name; other != nullptr; other = other->next_by_name) {
    if (std::string_view{other->name} != name || *other->type == *entry.type) continue;
    other->ambiguous.store(true, std::memory_order_relaxed);
    entry.ambiguous.store(true, std::memory_order_relaxed);
  }
}

void type_registry::add_alias(registered_type& alias, const registered_type& of) noexcept {
  if (alias.added.exchange(true, std::memory_order_relaxed)) return;
  keep_loaded(alias);
  alias.name = of.name;
  add_by_type(alias);
}

void type_registry::add_by_type(registered_type& entry) noexcept {
  push(by_type_[entry.type->hash_code() % bucket_count], entry, &registered_type::next_by_type);
}

const registered_type* type_registry::find(std::string_view name) const noexcept {
  const auto& head = by_name_[std::hash<std::string_view>{}(name) % bucket_count];
  for (auto* entry = head.load(std::memory_order_acquire); entry != nullptr;
       entry = entry->next_by_name)
    if (name == entry->name)
      return entry->ambiguous.load(std::memory_order_relaxed) ? nullptr : entry;
  return nullptr;
}

const registered_type* type_registry::find(const std::type_info& type) const noexcept {
  const auto& head = by_type_[type.hash_code() % bucket_count];
  for (auto* entry = head.load(std::memory_order_acquire); entry != nullptr;
       entry = entry->next_by_type)
    if (type == *entry->type)
      return entry->ambiguous.load(std::memory_order_relaxed) ? nullptr : entry;
  return nullptr;
}

}  // namespace carom::detail

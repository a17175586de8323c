// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/polymorphic.hpp>
#include <carom/detail/shared_objects.hpp>
#include <carom/errors.hpp>

#include "serialization/demangle.hpp"

#include <cxxabi.h>

#include <string>

namespace carom::detail {

using serialization::demangle;

type_registry& polymorphic_types() noexcept {
  static constinit type_registry registry;
  return registry;
}

const polymorphic_operations& find_polymorphic(const std::type_info& type,
                                               const std::type_info& pointer) {
  if (const auto* entry = polymorphic_types().find(type))
    return *static_cast<const polymorphic_operations*>(entry->operations);
  const std::string name = demangle(type.name());
  throw encoding_error("carom: a " + name + " behind a pointer to " + demangle(pointer.name()) +
                       " cannot travel: write BOOST_CLASS_EXPORT(" + name +
                       ") where all processes see it, after the archive headers");
}

const polymorphic_operations& find_polymorphic(std::string_view name) {
  if (const auto* entry = polymorphic_types().find(name))
    return *static_cast<const polymorphic_operations*>(entry->operations);
  throw encoding_error("carom: no class is exported here under the name '" +
                       std::string{name.substr(0, 128)} +
                       "'; write BOOST_CLASS_EXPORT for it where all processes see it");
}

void* upcast(const std::type_info& from, const std::type_info& to, void* object) {
  // The look-up that a catch clause does. Boost's void_cast knows only bases that a serialize()
  // named.
  const auto* target = dynamic_cast<const abi::__class_type_info*>(&to);
  if (target == nullptr || !from.__do_upcast(target, &object))
    throw encoding_error("carom: a pointer to " + demangle(to.name()) + " cannot point to a " +
                         demangle(from.name()) +
                         "; the bytes are corrupt, or sender and receiver were built from "
                         "different types");
  return object;
}

namespace {

[[noreturn]] void throw_cycle() {
  throw encoding_error(
      "carom: a shared_ptr leads back to an object that contains it; let the way back be a weak_ptr");
}

}  // namespace

std::pair<std::uint32_t, bool> shared_objects_out::enter(std::shared_ptr<const void> owner,
                                                         const void* object,
                                                         const std::type_info& type,
                                                         reference_cycles cycles) {
  const auto next = static_cast<std::uint32_t>(objects_.size());
  const auto [place, is_new] = numbers_.try_emplace({object, std::type_index{type}}, next);
  if (is_new)
    objects_.push_back({std::move(owner), false});
  else if (cycles == reference_cycles::refused && !objects_[place->second].complete)
    throw_cycle();
  return {place->second, is_new};
}

std::uint32_t shared_objects_in::enter(std::shared_ptr<void> owner, const std::type_info& type) {
  objects_.push_back({std::move(owner), &type, false});
  return static_cast<std::uint32_t>(objects_.size() - 1);
}

const shared_objects_in::object& shared_objects_in::at(std::uint32_t number,
                                                       reference_cycles cycles) const {
  if (number >= objects_.size()) throw_corrupt("a pointer names a shared object that never came");
  const object& found = objects_[number];
  if (cycles == reference_cycles::refused && !found.complete) throw_cycle();
  return found;
}

}  // namespace carom::detail

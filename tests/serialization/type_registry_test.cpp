// SPDX-License-Identifier: BSL-1.0
#include "tests/support/c_library.hpp"

#include <carom/detail/type_registry.hpp>

#include <gtest/gtest.h>

#include <new>

namespace {

using carom::detail::registered_type;
using carom::detail::type_registry;

struct of_a_plugin {};

TEST(TypeRegistry, what_a_library_has_entered_stays_when_the_library_is_closed) {
  static constinit type_registry registry;
  carom::test::c_library plugin(
      "char place[256] __attribute__((aligned(64))); const char name[] = \"of a plugin\";");
  static_assert(sizeof(registered_type) <= 256);
  plugin.open();
  auto* const entry = ::new (plugin.symbol("place"))
      registered_type{.type = &typeid(of_a_plugin), .operations = nullptr};
  registry.add(*entry, static_cast<const char*>(plugin.symbol("name")));
  plugin.close();
  EXPECT_EQ(registry.find("of a plugin"), entry);
  EXPECT_EQ(registry.find(typeid(of_a_plugin)), entry);
}

TEST(TypeRegistry, an_alias_of_a_library_stays_too) {
  static constinit type_registry registry;
  static constinit registered_type own{.type = &typeid(int), .operations = nullptr};
  registry.add(own, "int");
  carom::test::c_library plugin("char place[256] __attribute__((aligned(64)));");
  plugin.open();
  auto* const alias = ::new (plugin.symbol("place"))
      registered_type{.type = &typeid(of_a_plugin), .operations = nullptr};
  registry.add_alias(*alias, own);
  plugin.close();
  EXPECT_EQ(registry.find(typeid(of_a_plugin)), alias);
}

}  // namespace

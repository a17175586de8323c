// SPDX-License-Identifier: BSL-1.0
#include "runtime/modules.hpp"

#include <gtest/gtest.h>
#include <math.h>
#include <sys/mman.h>

#include <carom/errors.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/c_library.hpp"

namespace carom::tests {

/// Outside of any unnamed namespace, so that it has a name.
[[gnu::noinline, gnu::visibility("default")]] int named_task(int x) { return x + 1; }

}  // namespace carom::tests

namespace carom::runtime {
namespace {

using detail::code_pointer;
using detail::code_ref;

int local_task(int x) { return x - 1; }

template <class R, class... As>
code_pointer code(R (*function)(As...)) {
  return reinterpret_cast<code_pointer>(function);
}

class Modules : public testing::Test {
 protected:
  ~Modules() override { set_peer_modules({}); }

  /// As a worker of a process with the modules of this one.
  static std::vector<module_info> all() {
    scan_modules();
    std::vector<module_info> known;
    for (std::size_t i = 0; i < module_count(); ++i) known.push_back(module_at(i));
    return known;
  }
  static void expect_unknown(code_ref ref) {
    try {
      (void)detail::resolve_code(ref);
      ADD_FAILURE() << ref.module << " + " << ref.offset << " was resolved";
    } catch (const unknown_task& e) {
      EXPECT_NE(std::string(e.what()).find("same binary"), std::string::npos) << e.what();
    }
  }
};

TEST_F(Modules, AFunctionIsFoundAgain) {
  const code_pointer functions[] = {code(&local_task), code(&tests::named_task),
                                    code(static_cast<double (*)(double)>(&::cbrt))};
  for (const code_pointer one : functions)
    EXPECT_EQ(detail::resolve_code(detail::to_code_ref(one)), one);
  set_peer_modules(all());
  for (const code_pointer one : functions)
    EXPECT_EQ(detail::resolve_code(detail::to_code_ref(one)), one);
}

TEST_F(Modules, ARefIsTheSameWheneverAndWhereverItIsMade) {
  const code_ref first = detail::to_code_ref(code(&local_task));
  EXPECT_EQ(detail::to_code_ref(code(&local_task)), first);
  code_ref other;
  std::thread([&] { other = detail::to_code_ref(code(&local_task)); }).join();
  EXPECT_EQ(other, first);
  scan_modules();
  EXPECT_EQ(detail::to_code_ref(code(&local_task)), first);
}

TEST_F(Modules, EachHasAnIdentityAndAPath) {
  const auto known = all();
  ASSERT_GE(known.size(), 3u);
  for (const auto& one : known) EXPECT_FALSE(one.build_id.empty()) << one.path;
  const auto mine = known[detail::to_code_ref(code(&local_task)).module];
  EXPECT_NE(mine.path.find('/'), std::string::npos)
      << "the program's own path, not its link's name";
}

TEST_F(Modules, LookingAgainAddsNothingThatIsKnown) {
  const std::size_t before = all().size();
  EXPECT_EQ(all().size(), before);
}

TEST_F(Modules, WhatLiesInNoModuleCannotBeDescribed) {
  int on_the_stack = 0;
  EXPECT_THROW((void)detail::to_code_ref(reinterpret_cast<code_pointer>(&on_the_stack)),
               unknown_task);
  EXPECT_THROW((void)detail::to_code_ref(nullptr), unknown_task);
  EXPECT_THROW((void)detail::to_code_ref(reinterpret_cast<code_pointer>(UINTPTR_MAX)),
               unknown_task);
}

TEST_F(Modules, DataOfAModuleIsNoCode) {
  static int variable = 0;
  EXPECT_THROW((void)detail::to_code_ref(reinterpret_cast<code_pointer>(&variable)), unknown_task);
}

TEST_F(Modules, AModuleOrOffsetThatIsNotThereIsAnUnknownTask) {
  const code_ref fine = detail::to_code_ref(code(&local_task));
  for (const bool as_worker : {false, true}) {
    if (as_worker) set_peer_modules(all());
    ASSERT_NO_THROW((void)detail::resolve_code(fine));
    expect_unknown({module_count(), fine.offset});
    expect_unknown({UINT64_MAX, fine.offset});
    expect_unknown({fine.module, std::uint64_t{1} << 40});
    expect_unknown({fine.module, UINT64_MAX});
    expect_unknown({fine.module, 0});
  }
}

TEST_F(Modules, AnOffsetIntoDataIsAnUnknownTask) {
  static int variable = 0;
  const code_ref fine = detail::to_code_ref(code(&local_task));
  const auto base = reinterpret_cast<std::uintptr_t>(code(&local_task)) - fine.offset;
  expect_unknown({fine.module, reinterpret_cast<std::uintptr_t>(&variable) - base});
}

TEST_F(Modules, AnotherBinaryIsAnUnknownTask) {
  const code_ref fine = detail::to_code_ref(code(&local_task));
  auto modules = all();
  modules[fine.module].build_id = "0123456789abcdef";
  set_peer_modules(modules);
  expect_unknown(fine);
  modules[fine.module].path = "";
  set_peer_modules(modules);
  expect_unknown(fine);
  modules[fine.module].path = "/no/such/library.so";
  set_peer_modules(modules);
  expect_unknown(fine);
}

TEST_F(Modules, APeersModulesMayStandInAnotherOrder) {
  const code_ref fine = detail::to_code_ref(code(&local_task));
  const auto modules = all();
  set_peer_modules({{"0123456789abcdef", ""}, modules[fine.module]});
  EXPECT_EQ(detail::resolve_code({1, fine.offset}), code(&local_task));
  expect_unknown({0, fine.offset});
  add_peer_module(modules[fine.module]);
  EXPECT_EQ(detail::resolve_code({2, fine.offset}), code(&local_task));
}

// --- libraries that come and go ------------------------------------------------------------------

/// Has one function, which adds a number: all of them look the same from outside.
class library : public test::c_library {
 public:
  explicit library(int number)
      : c_library("int task(int x) { return x + " + std::to_string(number) + "; }") {}

  code_pointer open() {
    c_library::open();
    return reinterpret_cast<code_pointer>(symbol("task"));
  }
};

TEST_F(Modules, ALibraryInThePlaceOfAnotherIsNotTakenForIt) {
  library first(1), second(2);
  const code_pointer gone = first.open();
  const code_ref before = detail::to_code_ref(gone);
  EXPECT_EQ(module_at(before.module).path, first.path());
  first.close();
  const code_pointer here = second.open();  // the system puts it where the first one was
  const code_ref after = detail::to_code_ref(here);
  EXPECT_EQ(module_at(after.module).path, second.path());
  EXPECT_EQ(detail::resolve_code(after), here);
  expect_unknown(before);
}

TEST_F(Modules, WhatLayInAClosedLibraryIsAnUnknownTask) {
  library one(5);
  const code_pointer gone = one.open();
  const code_ref ref = detail::to_code_ref(gone);
  one.close();
  EXPECT_THROW((void)detail::to_code_ref(gone), unknown_task);
  expect_unknown(ref);
}

TEST_F(Modules, ALibraryThatComesBackKeepsItsNumber) {
  library one(3), other(4);
  const code_ref ref = detail::to_code_ref(one.open());
  const std::size_t known = module_count();
  for (int i = 0; i < 3; ++i) {
    one.close();
    (void)detail::to_code_ref(other.open());  // where the first one was
    const code_pointer again = one.open();
    EXPECT_EQ(detail::to_code_ref(again), ref);
    EXPECT_EQ(detail::resolve_code(ref), again);
    other.close();
  }
  EXPECT_EQ(module_count(), known + 1);
}

TEST_F(Modules, ALibraryOfAPeerStaysOpen) {
  library one(6);
  const code_ref ref = detail::to_code_ref(one.open());
  const auto modules = all();
  set_peer_modules(modules);
  const code_pointer meant = detail::resolve_code(ref);
  one.close();
  EXPECT_EQ(detail::resolve_code(ref), meant);
  EXPECT_EQ(reinterpret_cast<int (*)(int)>(meant)(1), 7);
}

// --- names ---------------------------------------------------------------------------------------

TEST_F(Modules, ARegisteredNameIsTheName) {
  detail::register_code_name({code(&local_task), nullptr, ""}, "resize image");
  EXPECT_EQ(detail::code_name(code(&local_task), "i"), "resize image");
}

TEST_F(Modules, WithoutAnyOtherNameTheTypeIsTheName) {
  EXPECT_EQ(detail::code_name(nullptr, "i"), "int");
  EXPECT_EQ(detail::code_name(nullptr, "what is this?"), "what is this?");
}

TEST_F(Modules, AFunctionOfALibraryHasItsOwnName) {
  const auto name = detail::code_name(code(static_cast<double (*)(double)>(&::cbrt)), "i");
  EXPECT_TRUE(name.starts_with("cbrt")) << name;
}

}  // namespace
}  // namespace carom::runtime

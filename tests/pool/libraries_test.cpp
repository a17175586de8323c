// SPDX-License-Identifier: BSL-1.0
// Functions of libraries that are opened and closed while a pool is at work.
#include <gtest/gtest.h>

#include <carom/errors.hpp>
#include <carom/pool.hpp>
#include <deque>
#include <string>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/c_library.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using function = int (*)(int);

TEST_F(Parity, Pool_functions_of_libraries_that_come_and_go) {
  carom::test::c_library first("int add(int x) { return x + 1; }");
  carom::test::c_library second("int add(int x) { return x + 2; }");
  for (const auto method :
       {carom::start_method::forkserver, carom::start_method::fork, carom::start_method::spawn}) {
    SCOPED_TRACE(carom::to_string(method));
    carom::pool pool{{.processes = 1, .start_method = method}};
    for (int round = 0; round < 3; ++round) {
      first.open();
      const auto gone = reinterpret_cast<function>(first.symbol("add"));
      EXPECT_EQ(pool.apply(gone, 10), 11);
      first.close();
      EXPECT_THROW(pool.apply(gone, 10), carom::unknown_task);
      second.open();  // where the first one was
      const auto here = reinterpret_cast<function>(second.symbol("add"));
      EXPECT_EQ(pool.apply(here, 10), 12);
      EXPECT_EQ(pool.map(here, std::vector{1, 2}), (std::vector{3, 4}));
      second.close();
    }
  }
}

// The worker still looks around for tasks when one comes whose library it has only just been told.
TEST_F(Parity, Pool_functions_of_libraries_that_are_opened_between_two_tasks) {
  carom::pool pool{{.processes = 1}};
  std::deque<carom::test::c_library> libraries;
  for (int i = 0; i < 10; ++i) {
    auto& library =
        libraries.emplace_back("int add(int x) { return x + " + std::to_string(i) + "; }");
    library.open();
    const auto add = reinterpret_cast<function>(library.symbol("add"));
    pool.apply(tasks::nothing);
    ASSERT_EQ(pool.apply(add, 10), 10 + i);
    ASSERT_EQ(pool.apply(add, 20), 20 + i);
  }
}

}  // namespace

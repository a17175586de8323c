// SPDX-License-Identifier: BSL-1.0
// Processes whose functions lie in libraries that came after the fork server.
#include <gtest/gtest.h>

#include <string>

#include "tests/process/support.hpp"
#include "tests/support/c_library.hpp"

namespace {

using namespace carom::test;
using carom::process;
using carom::start_method;

using code_leaver = void (*)(int);

std::string leaves_with_more(int more) {
  return "#include <stdlib.h>\nvoid leave(int code) { exit(code + " + std::to_string(more) + "); }";
}

int exit_code_of(start_method method, code_leaver leave) {
  process one({.start_method = method}, leave, 10);
  one.start();
  one.join();
  return one.exitcode().value_or(-1);
}

}  // namespace

TEST_F(Parity, Process_functions_of_libraries_that_come_and_go) {
  c_library first(leaves_with_more(1));
  c_library second(leaves_with_more(2));
  for (const auto method : {start_method::forkserver, start_method::fork, start_method::spawn}) {
    SCOPED_TRACE(carom::to_string(method));
    process({.start_method = method}, nothing).start();  // now there is a fork server
    first.open();
    const auto gone = reinterpret_cast<code_leaver>(first.symbol("leave"));
    EXPECT_EQ(exit_code_of(method, gone), 11);
    first.close();
    EXPECT_THROW(exit_code_of(method, gone), carom::unknown_task);
    second.open();  // where the first one was
    const auto here = reinterpret_cast<code_leaver>(second.symbol("leave"));
    EXPECT_EQ(exit_code_of(method, here), 12);
    second.close();
  }
}

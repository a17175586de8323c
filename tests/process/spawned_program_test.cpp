// SPDX-License-Identifier: BSL-1.0
// Which processes are taken for children of start_method::spawn, and what becomes of one that is
// not recognised.
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "tests/process/support.hpp"
#include "tests/process/workshop.hpp"

namespace {

using namespace carom::test;
using carom::process;
using carom::start_method;
using carom::start_method_error;

std::string run_self() {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  return "execl(\"" + self + "\", \"" + self + "\", \"--gtest_filter=none\", (char*)0); return 9;";
}

const helper_program spawns_by_way_of("spawns_by_way_of",
                                      [](const helper_program::arguments& given) {
                                        carom::set_executable(given.at(0));
                                        process one({.start_method = start_method::spawn},
                                                    leave_with, 7);
                                        one.start();
                                        one.join();
                                        return one.exitcode() == 7 ? 0 : 1;
                                      });

const helper_program spawns_what_closes_all(
    "spawns_what_closes_all", [](const helper_program::arguments& given) {
      carom::set_executable(given.at(0));
      process one({.start_method = start_method::spawn}, nothing);
      const std::string said = refusal([&] { one.start(); });
      if (said.find("exitcode 126") == std::string::npos)
        std::fprintf(stderr, "%s\n", said.c_str());
      return said.find("exitcode 126") != std::string::npos ? 0 : 1;
    });

}  // namespace

TEST_F(Parity, Context_spawn_where_the_kernel_adds_seals) {
  // Does to what proves the child what kernels do where vm.memfd_noexec is set.
  const workshop in;
  const std::string adds = in.compile(
      "char t[4096]; long n = pread(5, t, sizeof t, 0); int seals = 15, m;"
      "if (n <= 0 || (m = memfd_create(\"t\", MFD_ALLOW_SEALING)) < 0) return 1;"
      "if (write(m, t, n) != n || fchmod(m, 0600) != 0) return 2;"
      "if (fcntl(m, F_ADD_SEALS, seals | 0x20) != 0 && fcntl(m, F_ADD_SEALS, seals | 0x10) != 0)"
      "  return 3;"
      "if (fcntl(m, F_GET_SEALS) == seals || dup2(m, 5) != 5) return 4;"
      "close(m);" +
      run_self());
  EXPECT_EQ(result_of(spawns_by_way_of, {adds}), 0);
}

TEST_F(Parity, Context_spawn_never_runs_main_in_a_child_that_is_not_recognised) {
  const workshop in;
  const std::string closes =
      in.compile("for (int fd = 3; fd < 1024; ++fd) close(fd);" + run_self());
  EXPECT_EQ(result_of(spawns_what_closes_all, {closes}), 0);
}

TEST_F(Parity, Context_set_executable_refuses_a_script) {
  const workshop in;
  const std::string script = in.file("script");
  std::ofstream(script) << "#!/bin/sh\nexec true\n";
  std::filesystem::permissions(script, std::filesystem::perms::owner_all);
  try {
    carom::set_executable(script);
    ADD_FAILURE() << "it was taken";
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code().value(), ENOEXEC);
    EXPECT_NE(std::string(e.what()).find("script"), std::string::npos) << e.what();
  }
}

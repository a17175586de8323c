// SPDX-License-Identifier: BSL-1.0
// Contexts, start methods, preloading, programs that are spawned.
#include <fcntl.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "tests/process/support.hpp"
#include "tests/process/workshop.hpp"

namespace preloading {

struct error_number {
  int value = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value;
  }
};

}  // namespace preloading

CAROM_EXCEPTION(preloading::error_number);

namespace {

using namespace carom::test;
using carom::file_descriptor;
using carom::process;
using carom::start_method;
using carom::start_method_error;

std::string state_of_memory = "as the program begins";
std::string memory() { return state_of_memory; }
void tell_memory(file_descriptor to) { write_line(to.get(), state_of_memory); }
std::string memory_of_process(const carom::context& context) {
  pipe_ends ends;
  process one = context.make_process(tell_memory, std::move(ends.write));
  one.start();
  const std::string said = read_line(ends.read.get());
  one.join();
  return said;
}

// What the helper programs say at slot 1.
enum outcome : std::uint32_t { none, right, wrong };

const helper_program spawns_another("spawns_another", [](const helper_program::arguments& given) {
  carom::set_executable(given.at(1));
  std::string said;
  if (given.at(0) == "process") {
    process one({.start_method = start_method::spawn,
                 .start_timeout = std::chrono::milliseconds(std::stoi(given.at(2)))},
                nothing);
    said = refusal([&] { one.start(); });
    if (one.is_alive() || one.pid() != 0) return 2;
  } else {
    said = refusal([&] {
      carom::pool pool{{.processes = 2,
                        .start_method = start_method::spawn,
                        .start_timeout = std::chrono::milliseconds(std::stoi(given.at(2)))}};
      pool.apply(nothing);
    });
  }
  const bool as_wanted =
      said.find("carom::init") != std::string::npos && said.find(given.at(3)) != std::string::npos;
  if (!as_wanted) std::fprintf(stderr, "said: %s\n", said.c_str());
  return as_wanted ? 0 : 1;
});

const helper_program spawns_another_build(
    "spawns_another_build", [](const helper_program::arguments& given) {
      carom::set_executable(given.at(0));
      process one({.start_method = start_method::spawn}, nothing);
      try {
        one.start();
        return 1;
      } catch (const carom::unknown_task&) {
      }
      carom::pool pool{{.processes = 1, .start_method = start_method::spawn}};
      try {
        pool.apply(square, 3);
        return 2;
      } catch (const carom::unknown_task&) {
      }
      process own({.start_method = start_method::forkserver}, leave_with, 6);
      own.start();
      own.join();
      return own.exitcode() == 6 ? 0 : 3;
    });

const helper_program spawns_without_init(
    "spawns_without_init",
    [](const helper_program::arguments&) {
      process one({.start_method = start_method::spawn}, nothing);
      const auto said = refusal([&] { one.start(); });
      const auto of_pool = refusal([] { carom::pool{{.start_method = start_method::spawn}}; });
      return said.find("carom::init") != std::string::npos && said == of_pool ? 0 : 1;
    },
    helper_program::init::missing);

const helper_program sets_the_method("sets_the_method", [](const helper_program::arguments&) {
  if (carom::get_start_method() != start_method::forkserver) return 1;
  carom::set_start_method(start_method::fork);
  if (carom::get_start_method() != start_method::fork) return 2;
  try {
    carom::set_start_method(start_method::spawn);
    return 3;
  } catch (const carom::process_error&) {
  }
  carom::set_start_method(start_method::fork, true);
  state_of_memory = "now";
  if (memory_of_process(carom::get_context()) != "now") return 4;
  if (carom::get_context().make_pool({.processes = 1}).apply(memory) != "now") return 5;
  if (carom::pool{{.processes = 1}}.apply(memory) != "now") return 6;
  if (carom::get_context().get_start_method() != start_method::fork) return 7;
  process child(+[] {
    // Inherited, and may be set anew.
    if (carom::get_start_method() != start_method::fork) std::exit(1);
    carom::set_start_method(start_method::forkserver);
  });
  child.start();
  child.join();
  if (child.exitcode() != 0) return 8;
  carom::forking_enable(true);
  if (carom::get_start_method() != start_method::fork) return 9;
  carom::forking_enable(false);
  if (carom::get_start_method() != start_method::spawn) return 10;
  return memory_of_process(carom::get_context()) == "as the program begins" ? 0 : 11;
});

// --- preload -------------------------------------------------------------------------------------

std::vector<int> table;

const helper_program preloads(
    "preloads",
    [](const helper_program::arguments&) {
      carom::set_forkserver_preload(+[] {
        board::add(2);
        table.assign(100'000, 7);
        state_of_memory = "preloaded";
      });
      carom::init(0, nullptr);
      if (!table.empty()) return 1;
      const auto size = +[] { return table.size(); };
      carom::pool pool{{.processes = 2}};
      if (pool.apply(size) != 100'000) return 2;
      if (memory_of_process(carom::get_context()) != "preloaded") return 3;
      if (memory_of_process(carom::get_context(start_method::fork)) != "as the program begins")
        return 4;
      if (board::get(2) != 1) return 5;
      // The keeper's death: the forker, where it is loaded, takes its place.
      auto servers = servers_of_host(::getpid());
      ::kill(servers.keeper, SIGKILL);
      if (memory_of_process(carom::get_context()) != "preloaded") return 6;
      const pid_t successor = servers.forker;
      if (!eventually([&] {
            servers = servers_of_host(::getpid());
            return servers.keeper == successor && servers.forker != 0;
          }))
        return 7;
      if (board::get(2) != 1) return 8;
      // The next forker inherits it as well.
      ::kill(servers.forker, SIGKILL);
      if (memory_of_process(carom::get_context()) != "preloaded") return 9;
      if (board::get(2) != 1) return 10;
      try {
        carom::set_forkserver_preload(nullptr);
        return 11;
      } catch (const start_method_error& e) {
        return std::string(e.what()).find("before carom::init") != std::string::npos ? 0 : 12;
      }
    },
    helper_program::init::missing);

const helper_program preloads_again(
    "preloads_again",
    [](const helper_program::arguments&) {
      carom::set_forkserver_preload(+[] {
        board::add(2);
        state_of_memory = "preloaded";
      });
      carom::init(0, nullptr);
      // The first forker's death: its keeper has not loaded anything.
      ::kill(servers_of_host(::getpid()).forker, SIGKILL);
      if (memory_of_process(carom::get_context()) != "preloaded") return 1;
      return board::get(2) == 2 ? 0 : 2;
    },
    helper_program::init::missing);

const helper_program preload_throws(
    "preload_throws",
    [](const helper_program::arguments&) {
      carom::set_forkserver_preload(+[] { throw std::out_of_range("no such table"); });
      try {
        carom::init(0, nullptr);
        return 1;
      } catch (const start_method_error& e) {
        if (std::string(e.what()).find("no such table") == std::string::npos) return 2;
        try {
          std::rethrow_if_nested(e);
          return 3;
        } catch (const std::out_of_range&) {
        }
      }
      // Nothing is left of it, and without it all works.
      if (!eventually([] { return family_of(::getpid()).empty(); })) return 4;
      carom::set_forkserver_preload(nullptr);
      carom::init(0, nullptr);
      process one(leave_with, 3);
      one.start();
      one.join();
      return one.exitcode() == 3 ? 0 : 5;
    },
    helper_program::init::missing);

const helper_program preload_throws_a_number(
    "preload_throws_a_number",
    [](const helper_program::arguments&) {
      carom::set_forkserver_preload(+[] { throw preloading::error_number{7}; });
      try {
        carom::init(0, nullptr);
      } catch (const start_method_error& e) {
        try {
          std::rethrow_if_nested(e);
        } catch (const preloading::error_number& number) {
          return number.value == 7 ? 0 : 1;
        }
      } catch (...) {
        return 2;
      }
      return 3;
    },
    helper_program::init::missing);

const helper_program preload_ends_its_process(
    "preload_ends_its_process",
    [](const helper_program::arguments&) {
      carom::set_forkserver_preload(+[] { ::_exit(1); });
      return refusal([] { carom::init(0, nullptr); }).find("must not end") != std::string::npos ? 0
                                                                                                : 1;
    },
    helper_program::init::missing);

}  // namespace

TEST_F(Parity, Context_start_methods) {
  const auto all = carom::get_all_start_methods();
  EXPECT_EQ(all.size(), 3U);
  EXPECT_EQ(all.front(), carom::get_start_method());
  EXPECT_EQ(carom::to_string(start_method::forkserver), "forkserver");
  EXPECT_EQ(carom::to_string(start_method::fork), "fork");
  EXPECT_EQ(carom::to_string(start_method::spawn), "spawn");
  for (const auto method : all) EXPECT_EQ(carom::get_context(method).get_start_method(), method);
}

TEST_F(Parity, Context_what_each_start_method_sees_of_memory) {
  state_of_memory = "now";
  const std::pair<start_method, const char*> seen[] = {
      {start_method::forkserver, "as the program begins"},
      {start_method::fork, "now"},
      {start_method::spawn, "as the program begins"}};
  for (const auto& [method, memory_there] : seen) {
    EXPECT_EQ(memory_of_process(carom::get_context(method)), memory_there);
    EXPECT_EQ(carom::get_context(method).make_pool({.processes = 1}).apply(memory), memory_there);
    carom::process named =
        carom::get_context(method).make_process({.name = "named"}, leave_with, 2);
    EXPECT_EQ(named.name(), "named");
    named.start();
    named.join();
    EXPECT_EQ(named.exitcode(), 2);
  }
  state_of_memory = "as the program begins";
}

TEST_F(Parity, Context_set_start_method) {
  EXPECT_EQ(result_of(sets_the_method), 0);
  EXPECT_THROW(carom::set_start_method(static_cast<start_method>(7)), std::invalid_argument);
}

TEST_F(Parity, Context_spawn_is_a_new_run_of_the_program) {
  pipe_ends ends;
  process one(
      {.start_method = start_method::spawn},
      +[](file_descriptor to) {
        std::string open;
        for (int fd = 3; fd < 64; ++fd)
          if (fd != to.get() && ::fcntl(fd, F_GETFD) >= 0)
            open +=
                std::to_string(fd) + (::fcntl(fd, F_GETFD) & FD_CLOEXEC ? " " : " is inherited ");
        write_line(to.get(), std::to_string(::getenv("CAROM_CHILD") != nullptr) + " " +
                                 std::to_string(::getpgrp() == ::getpid()) + " " + open);
        for (;;) ::pause();
      },
      std::move(ends.write));
  one.start();
  const std::string said = read_line(ends.read.get());
  EXPECT_TRUE(said.starts_with("0 1 ")) << said;
  EXPECT_EQ(said.find("inherited"), std::string::npos) << said;
  EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(one.pid()) + "/exe"),
            std::filesystem::read_symlink("/proc/self/exe"));
  one.terminate();
  one.join();
  EXPECT_EQ(one.exitcode(), -SIGTERM);
}

TEST_F(Parity, Context_spawn_pool_recovers_and_ends) {
  carom::pool pool{{.processes = 2, .start_method = start_method::spawn}};
  EXPECT_EQ(pool.map(square, std::vector{1, 2, 3}), (std::vector{1, 4, 9}));
  EXPECT_THROW(pool.apply(die_of, SIGKILL), carom::worker_lost);
  EXPECT_EQ(pool.apply(square, 5), 25);
  pool.close();
  pool.join();
}

TEST_F(Parity, Context_spawn_of_a_program_without_init) {
  const workshop in;
  // One that ends, one that stays for ever.
  const std::string ends = in.compile("return 3;");
  EXPECT_EQ(result_of(spawns_another, {"process", ends, "30000", "exitcode 3"}), 0);
  EXPECT_EQ(result_of(spawns_another, {"pool", ends, "30000", "exitcode 3"}), 0);
  const std::string stays = in.compile("for (;;) pause();");
  EXPECT_EQ(result_of(spawns_another, {"process", stays, "200", "start_timeout"}), 0);
  EXPECT_EQ(result_of(spawns_another, {"pool", stays, "200", "start_timeout"}), 0);
}

TEST_F(Parity, Context_spawn_means_no_grandchild) {
  // Whoever inherits the descriptors of a spawned program is not meant: main goes on there.
  const workshop in;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string forks =
      in.compile("if (fork() == 0) { execl(\"" + self + "\", \"" + self +
                 "\", \"--gtest_filter=none\", (char*)0); _exit(9); }"
                 "int status = 0; wait(&status); return status == 0 ? 42 : 43;");
  EXPECT_EQ(result_of(spawns_another, {"process", forks, "30000", "exitcode 42"}), 0);
}

TEST_F(Parity, Context_spawn_of_another_build) {
  const workshop in;
  EXPECT_EQ(result_of(spawns_another_build, {in.another_build()}), 0);
}

TEST_F(Parity, Context_spawn_without_init_of_its_own) {
  EXPECT_EQ(result_of(spawns_without_init), 0);
}

TEST_F(Parity, Context_set_executable_refuses) {
  EXPECT_THROW(carom::set_executable("/nonexistent/program"), std::system_error);
  EXPECT_THROW(carom::set_executable("/tmp"), std::system_error);
}

TEST_F(Parity, Context_preload) { EXPECT_EQ(result_of(preloads), 0); }
TEST_F(Parity, Context_preload_runs_again_in_a_forker_that_inherits_nothing) {
  EXPECT_EQ(result_of(preloads_again), 0);
}
TEST_F(Parity, Context_preload_that_throws) { EXPECT_EQ(result_of(preload_throws), 0); }
TEST_F(Parity, Context_preload_that_throws_no_exception) {
  EXPECT_EQ(result_of(preload_throws_a_number), 0);
}
TEST_F(Parity, Context_preload_that_ends_its_process) {
  EXPECT_EQ(result_of(preload_ends_its_process), 0);
}
TEST_F(Parity, Context_preload_after_init) {
  EXPECT_THROW(carom::set_forkserver_preload(nothing), start_method_error);
}

// SPDX-License-Identifier: BSL-1.0
// Hosts that close descriptors, reap orphans, have little of what a process usually has.
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "runtime/process_state.hpp"
#include "tests/process/support.hpp"
#include "tests/process/workshop.hpp"

namespace {

using namespace carom::test;
using carom::process;
using carom::start_method;
using carom::start_method_error;

std::size_t length_of(const std::string& text) { return text.size(); }

bool pool_works(start_method method = start_method::forkserver) {
  carom::pool pool{{.processes = 1, .start_method = method}};
  return pool.apply(square, 3) == 9;
}

bool process_works(start_method method) {
  process one({.start_method = method}, nothing);
  one.start();
  one.join();
  return one.exitcode() == 0;
}

// --- standard descriptors ------------------------------------------------------------------------

bool none_is_open(std::initializer_list<int> fds) {
  for (const int fd : fds)
    if (::fcntl(fd, F_GETFD) >= 0) return false;
  return true;
}

const helper_program closes_stdio_later("closes_stdio_later", [](const helper_program::arguments&) {
  ::close(0);
  ::close(1);
  carom::lock lock;
  carom::queue<int> queue;
  queue.put(1);
  carom::shared_buffer buffer(10);
  carom::pool pool{{.processes = 2}};
  if (pool.apply(length_of, std::string(1'000'000, 'x')) != 1'000'000) return 1;
  const int told = pool.completion_fd();
  auto [one, other] = carom::pipe();
  process child({.start_method = start_method::fork}, nothing);
  child.start();
  if (told < 3 || !none_is_open({0, 1})) return 2;
  child.join();
  queue.get();
  return none_is_open({0, 1}) ? 0 : 3;
});

// --- limits --------------------------------------------------------------------------------------

const helper_program has_a_file_size_limit(
    "has_a_file_size_limit", [](const helper_program::arguments&) {
      carom::pool pool{{.processes = 1}};
      std::signal(SIGXFSZ, SIG_DFL);  // what starts tests may have it ignored
      const rlimit some{8 << 20, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &some);
      try {
        pool.apply(length_of, std::string(20 << 20, 'x'));
        return 1;
      } catch (const carom::encoding_error& e) {
        if (std::string(e.what()).find("RLIMIT_FSIZE") == std::string::npos) return 2;
      }
      if (pool.apply(length_of, std::string(1 << 20, 'x')) != 1 << 20) return 3;
      const std::vector<std::string> items{"a", std::string(20 << 20, 'x'), "b"};
      try {
        pool.map(length_of, items);
        return 4;
      } catch (const carom::encoding_error&) {
      }
      try {
        carom::shared_buffer much(20 << 20);
        return 5;
      } catch (const std::system_error& e) {
        if (e.code().value() != EFBIG) return 6;
      }
      return pool.apply(square, 3) == 9 ? 0 : 7;
    });

const helper_program has_a_tiny_file_size_limit(
    "has_a_tiny_file_size_limit", [](const helper_program::arguments&) {
      std::signal(SIGXFSZ, SIG_DFL);
      const rlimit little{100, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &little);
      carom::set_log(std::make_shared<spdlog::logger>("silent"));
      try {
        pool_works();
        return 1;
      } catch (const carom::error& e) {
        const std::string said = e.what();
        if (said.find("RLIMIT_FSIZE") == std::string::npos) {
          std::fprintf(stderr, "%s\n", e.what());
          return 2;
        }
      } catch (const std::system_error& e) {
        if (e.code().value() != EFBIG) return 3;
      }
      return 0;
    });

// --- closed behind carom's back ------------------------------------------------------------------

/// Pipes of the program's own, under the numbers that have become free.
class own_pipes {
 public:
  own_pipes() {
    for (auto& ends : pipes_)
      if (::pipe2(ends.data(), O_NONBLOCK) != 0) throw std::runtime_error("pipe");
  }
  /// Nobody has written into them or closed them.
  bool untouched() const {
    char byte = 0;
    for (const auto& [in, out] : pipes_)
      if (::fcntl(out, F_GETFD) < 0 || ::read(in, &byte, 1) >= 0 || errno != EAGAIN) return false;
    return true;
  }

 private:
  std::array<std::array<int, 2>, 10> pipes_{};
};

const helper_program closes_all_after_init(
    "closes_all_after_init", [](const helper_program::arguments&) {
      ::close_range(3, ~0U, 0);
      board::hide();
      const own_pipes own;
      for (const auto method : {start_method::forkserver, start_method::fork, start_method::spawn})
        if (!pool_works(method) || !process_works(method)) return 1;
      return own.untouched() ? 0 : 2;
    });

const helper_program closes_all_and_has_threads(
    "closes_all_and_has_threads", [](const helper_program::arguments&) {
      ::close_range(3, ~0U, 0);
      const own_pipes own;
      std::jthread other([](const std::stop_token& stop) {
        while (!stop.stop_requested()) ::usleep(1000);
      });
      for (const std::string& said : {refusal([] { pool_works(); }), refusal([] {
                                        process one(nothing);
                                        one.start();
                                      })})
        if (said.find("closed by this program") == std::string::npos) {
          std::fprintf(stderr, "%s\n", said.c_str());
          return 1;
        }
      if (!pool_works(start_method::fork)) return 2;
      return own.untouched() ? 0 : 3;
    });

const helper_program closes_all_beside_a_pool(
    "closes_all_beside_a_pool", [](const helper_program::arguments&) {
      carom::set_log(std::make_shared<spdlog::logger>("silent"));
      carom::queue<int> keeps_the_loop;
      const int server = carom::runtime::process_state::instance().server->fd();
      if (!pool_works()) return 1;
      ::close(server);
      const own_pipes own;
      try {
        pool_works();
        return 2;
      } catch (const carom::error&) {
      }
      return own.untouched() ? 0 : 3;
    });

// --- who waits for all its children --------------------------------------------------------------

const helper_program reaps_orphans(
    "reaps_orphans",
    [](const helper_program::arguments&) {
      ::prctl(PR_SET_CHILD_SUBREAPER, 1);
      carom::init(0, nullptr);
      int still = 0;
      ::prctl(PR_GET_CHILD_SUBREAPER, &still);
      if (still != 1) return 1;
      if (::waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD) return 2;
      if (!pool_works()) return 3;
      return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD ? 0 : 4;
    },
    helper_program::init::missing);

// --- without /proc -------------------------------------------------------------------------------

const helper_program sees_no_proc(
    "sees_no_proc",
    [](const helper_program::arguments& given) {
      if (::chroot(given.at(0).c_str()) != 0 &&
          (::unshare(CLONE_NEWUSER) != 0 || ::chroot(given.at(0).c_str()) != 0))
        return 1;
      carom::init(0, nullptr);
      carom::lock lock;
      if (!lock.acquire()) return 2;
      for (const auto method : carom::get_all_start_methods()) {
        const auto of_pool = refusal([&] { pool_works(method); });
        const auto of_process = refusal([&] {
          process one({.start_method = method}, nothing);
          one.start();
        });
        for (const std::string& said : {of_pool, of_process})
          if (said.find("/proc") == std::string::npos) {
            std::fprintf(stderr, "%s\n", said.c_str());
            return 3;
          }
      }
      ::_exit(0);  // a sanitizer's last look needs /proc, too
    },
    helper_program::init::missing);

// --- output that is not flushed ------------------------------------------------------------------

std::FILE* log_of_host = nullptr;
void add_a_line() {
  std::fputs("child\n", log_of_host);
  std::cout << "child\n";
}

const helper_program has_unflushed_output(
    "has_unflushed_output", [](const helper_program::arguments& given) {
      const int out = ::open(given.at(1).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(out, 1);
      ::close(out);
      std::ios::sync_with_stdio(false);
      log_of_host = std::fopen(given.at(0).c_str(), "a");
      std::fputs("host\n", log_of_host);
      std::fputs("out\n", stdout);
      std::cout << "host\n";
      if (!pool_works(start_method::fork)) return 1;
      process one({.start_method = start_method::fork}, add_a_line);
      one.start();
      one.join();
      return one.exitcode() == 0 ? 0 : 2;
    });

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_F(Parity, Init_host_that_closes_its_standard_descriptors_later) {
  EXPECT_EQ(result_of(closes_stdio_later), 0);
}

TEST_F(Parity, Init_host_with_a_file_size_limit) {
  EXPECT_EQ(result_of(has_a_file_size_limit), 0);
  EXPECT_EQ(result_of(has_a_tiny_file_size_limit), 0);
}

TEST_F(Parity, Init_host_that_closes_all_descriptors) {
  EXPECT_EQ(result_of(closes_all_after_init), 0);
  EXPECT_EQ(result_of(closes_all_and_has_threads), 0);
  EXPECT_EQ(result_of(closes_all_beside_a_pool), 0);
}

TEST_F(Parity, Init_host_that_reaps_orphans_never_sees_a_server) {
  EXPECT_EQ(result_of(reaps_orphans), 0);
}

TEST_F(Parity, Init_without_proc_needs_it_for_processes_only) {
  const workshop in;
  std::filesystem::create_directory(in.file("root"));
  EXPECT_EQ(result_of(sees_no_proc, {in.file("root")}), 0);
}

TEST_F(Parity, Process_fork_leaves_unflushed_output_to_the_host) {
  const workshop in;
  EXPECT_EQ(result_of(has_unflushed_output, {in.file("log"), in.file("out")}), 0);
  EXPECT_EQ(content_of(in.file("log")), "child\nhost\n");
  EXPECT_EQ(content_of(in.file("out")), "child\nhost\nout\n");
}

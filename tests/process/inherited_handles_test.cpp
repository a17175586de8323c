// SPDX-License-Identifier: BSL-1.0
// Handles in memory that a process has inherited: used, passed on, destroyed.
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/process/every_handle.hpp"

namespace {

using namespace carom::test;
using carom::process_error;
using carom::start_method;

template <class H>
std::optional<H> inherited;

/// Descriptors of the process's own, in all places that closed ones have left free.
class own_files {
 public:
  own_files() {
    for (auto& one : all_) {
      one.fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
      ::fstat(one.fd, &one.status);
    }
  }
  bool untouched() const {
    for (const auto& one : all_) {
      struct stat now {};
      if (::fstat(one.fd, &now) != 0 || now.st_ino != one.status.st_ino) return false;
    }
    return true;
  }

 private:
  struct file {
    int fd = -1;
    struct stat status {};
  };
  file all_[40];
};

// In a process that has inherited one. The exit code says what went wrong.

template <class H>
void use_inherited() {
  const own_files files;
  marked<H>::mark(*inherited<H>);
  if (!files.untouched()) std::exit(1);
}
template <class H>
void pass_inherited_on(start_method method) {
  const own_files files;
  if (const int code = run_process(method, leave_mark<H>, another(*inherited<H>)); code != 0)
    std::exit(code);
  if (!files.untouched()) std::exit(1);
}
template <class H>
void destroy_inherited() {
  const own_files files;
  inherited<H>.reset();
  if (!files.untouched()) std::exit(1);
}
/// Both the inherited one and one that has arrived.
template <class H>
void pass_arrived_on(H arrived, start_method method) {
  const own_files files;
  if (const int code = run_process(method, leave_mark<H>, another(*inherited<H>)); code != 0)
    std::exit(code);
  if (const int code = run_process(method, leave_mark<H>, std::move(arrived)); code != 0)
    std::exit(code);
  inherited<H>.reset();
  if (!files.untouched()) std::exit(1);
}
template <class H>
void is_refused_inherited() {
  const own_files files;
  try {
    marked<H>::mark(*inherited<H>);
    std::exit(1);
  } catch (const process_error& e) {
    if (std::string(e.what()).find("not inherited") == std::string::npos &&
        std::string(e.what()).find("inherited a handle, but not") == std::string::npos)
      std::exit(2);
  }
  try {
    run_process(start_method::fork, leave_mark<H>, another(*inherited<H>));
    std::exit(3);
  } catch (const carom::error&) {
  }
  inherited<H>.reset();
  if (!files.untouched()) std::exit(4);
}

class Inherited {
 public:
  /// Makes one of each for `f`, which finds it in `inherited`.
  template <class F>
  static void each_of_memory(F f) {
    for_each_memory_handle([&]<class H>(const char* kind) {
      SCOPED_TRACE(kind);
      inherited<H> = marked<H>::make();
      f.template operator()<H>();
      inherited<H>.reset();
    });
  }
};

TEST_F(Parity, Process_every_inherited_handle_works_in_a_forked_child) {
  Inherited::each_of_memory([]<class H>() {
    ASSERT_EQ(run_process(start_method::fork, use_inherited<H>), 0);
    EXPECT_TRUE(marked<H>::found(*inherited<H>));
  });
}

TEST_F(Parity, Process_every_inherited_handle_can_be_passed_on) {
  Inherited::each_of_memory([]<class H>() {
    for (const auto next : {start_method::fork, start_method::forkserver, start_method::spawn}) {
      ASSERT_EQ(run_process(start_method::fork, pass_inherited_on<H>, next), 0);
      EXPECT_TRUE(marked<H>::found(*inherited<H>));
    }
  });
}

TEST_F(Parity, Process_every_inherited_handle_and_the_one_that_arrives_are_both_good) {
  Inherited::each_of_memory([]<class H>() {
    if constexpr (!std::is_same_v<H, carom::shared_heap>) {  // takes a name once
      ASSERT_EQ(
          run_process(start_method::fork, pass_arrived_on<H>, *inherited<H>, start_method::fork),
          0);
      EXPECT_TRUE(marked<H>::found(*inherited<H>));
    }
  });
}

TEST_F(Parity, Process_every_inherited_handle_dies_without_closing_what_is_not_its_own) {
  Inherited::each_of_memory([]<class H>() {
    EXPECT_EQ(run_process(start_method::fork, destroy_inherited<H>), 0);
    leave_mark(*inherited<H>);
  });
  for_each_channel_handle([]<class H>(const char* kind) {
    SCOPED_TRACE(kind);
    inherited<H> = marked<H>::make();
    EXPECT_EQ(run_process(start_method::fork, destroy_inherited<H>), 0);
    marked<H>::mark(*inherited<H>);
    EXPECT_TRUE(marked<H>::found(*inherited<H>));
    inherited<H>.reset();
  });
}

TEST_F(Parity, Process_inherited_channels_are_refused) {
  for_each_channel_handle([]<class H>(const char* kind) {
    SCOPED_TRACE(kind);
    inherited<H> = marked<H>::make();
    EXPECT_EQ(run_process(start_method::fork, is_refused_inherited<H>), 0);
    marked<H>::mark(*inherited<H>);
    EXPECT_TRUE(marked<H>::found(*inherited<H>)) << "nothing came before";
    inherited<H>.reset();
  });
}

TEST_F(Parity, Process_inherited_listener_is_refused) {
  inherited<carom::listener>.emplace();
  EXPECT_EQ(run_process(
                start_method::fork,
                +[] {
                  const own_files files;
                  try {
                    inherited<carom::listener>->accept(std::chrono::seconds(0));
                    std::exit(1);
                  } catch (const process_error&) {
                  }
                  try {
                    carom::wait({*inherited<carom::listener>}, std::chrono::seconds(0));
                    std::exit(2);
                  } catch (const process_error&) {
                  }
                  inherited<carom::listener>.reset();
                  if (!files.untouched()) std::exit(3);
                }),
            0);
  const carom::connection client = carom::client(inherited<carom::listener>->address());
  EXPECT_FALSE(inherited<carom::listener>->accept().closed());
  inherited<carom::listener>.reset();
}

/// An end that is open in a forked child would never be seen to end.
TEST_F(Failures, 4_inherited_pipe_end_of_a_connection_is_not_held_by_a_forked_child) {
  auto [mine, its] = carom::pipe();
  carom::process child({.start_method = start_method::fork}, stay, 0u);
  child.start();
  ASSERT_NE(pid_on_board(0), 0);
  its.close();
  EXPECT_TRUE(mine.poll(std::chrono::seconds(30)));
  EXPECT_TRUE(mine.at_end());
  child.kill();
  child.join();
}

/// A program that never calls init: its first pool forks the fork server from the memory that it
/// has then, with the handles in it.
template <class H>
int works_without_init(carom::pool& pool) {
  H& mine = *inherited<H>;
  H back = pool.apply(give_back<H>, pool.apply(give_back<H>, mine));
  if (run_process(start_method::forkserver, leave_mark<H>, std::move(back)) != 0) return 1;
  if (!marked<H>::found(mine)) return 2;
  if (run_process(start_method::forkserver, pass_on<H>, mine, 2, start_method::forkserver) != 0)
    return 3;
  if (!marked<H>::found(mine)) return 4;
  // The one that is in the memory of every process from the fork server.
  if (run_process(start_method::forkserver, pass_inherited_on<H>, start_method::fork) != 0)
    return 5;
  if (!marked<H>::found(mine)) return 6;
  if (run_process(start_method::forkserver, destroy_inherited<H>) != 0) return 7;
  return 0;
}

const helper_program uses_handles_without_init(
    "uses_handles_without_init",
    [](const helper_program::arguments&) {
      for_each_memory_handle([]<class H>(const char*) { inherited<H> = marked<H>::make(); });
      carom::pool pool{{.processes = 1}};
      int result = 0;
      for_each_memory_handle([&]<class H>(const char* kind) {
        if (const int code = works_without_init<H>(pool); code != 0) {
          std::fprintf(stderr, "%s: %d\n", kind, code);
          result = 1;
        }
      });
      return result;
    },
    helper_program::init::missing);

TEST_F(Parity, Pool_every_handle_of_a_program_without_init) {
  running_helper helper(uses_handles_without_init);
  EXPECT_EQ(helper.wait(), 0);
}

}  // namespace

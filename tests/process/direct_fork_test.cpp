// SPDX-License-Identifier: BSL-1.0
// Processes of start_method::fork, and the guardian that stands between each of them and its host.
#include <sys/wait.h>

#include <stop_token>
#include <thread>

#include "tests/process/support.hpp"

namespace {

using namespace carom::test;
using carom::process;
using carom::process_options;
using carom::start_method;

const process_options by_fork{.start_method = start_method::fork};

void count_up_to_the_end(int read_end, int write_end) {
  ::close(write_end);
  board::set(1, 1);
  char byte = 0;
  std::uint32_t bytes = 0;
  while (::read(read_end, &byte, 1) > 0) ++bytes;
  board::set(2, bytes);
}

void stay_with_children() {
  if (::fork() == 0) stay(2);
  if (::fork() == 0) {
    ::setsid();
    stay(3);
  }
  board::wait(2);
  board::wait(3);
  stay(1);
}

/// Its children end without a word to it.
const helper_program host_that_ignores_children(
    "host_that_ignores_children", [](const helper_program::arguments&) {
      std::signal(SIGCHLD, SIG_IGN);
      process seven(by_fork, leave_with, 7);
      seven.start();
      seven.join();
      process killed(by_fork, die_of, SIGKILL);
      killed.start();
      killed.join();
      board::set(1, static_cast<std::uint32_t>(*seven.exitcode()));
      board::set(2, static_cast<std::uint32_t>(-*killed.exitcode()));
      return 0;
    });

}  // namespace

TEST_F(Failures, 04_no_guardian_hides_the_end_of_a_pipe) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);  // as any program makes them: not close-on-exec
  process reader = started(by_fork, count_up_to_the_end, ends[0], ends[1]);
  ::close(ends[0]);
  ASSERT_TRUE(board::wait(1));
  EXPECT_EQ(::write(ends[1], "abc", 3), 3);
  ::close(ends[1]);
  EXPECT_TRUE(reader.join(std::chrono::seconds(20)));
  EXPECT_EQ(board::get(2), 3U);
  if (reader.is_alive()) reader.kill();
  reader.join();
}

#if !defined(__SANITIZE_ADDRESS__)  // gcc 12's hangs in copies made while other threads allocate

// What the loop is told of a queue's descriptor that was closed just now is not true of a child's
// that has its place.
TEST_F(Parity, Process_direct_fork_beside_queues_that_come_and_go) {
  std::jthread noise([](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      carom::queue<int> one;
      one.put(1);
      one.get();
    }
  });
  for (int i = 0; i < 100; ++i) {
    process child = started(by_fork, leave_with, 7);
    child.join();
    ASSERT_EQ(child.exitcode(), 7) << i;
  }
}

#endif

TEST_F(Failures, 14_descendants_die_with_a_killed_guardian) {
  process worker = started(by_fork, stay_with_children);
  ASSERT_TRUE(pid_on_board(1));
  const pid_t guardian = status_of(worker.pid())->parent;
  ASSERT_EQ(status_of(guardian)->parent, ::getpid());
  ::kill(guardian, SIGKILL);
  worker.join();
  EXPECT_EQ(worker.exitcode(), -SIGKILL);
  EXPECT_TRUE(gone_within_a_second({pid_on_board(1), pid_on_board(2), pid_on_board(3)}));
}

TEST_F(Failures, 23_an_exit_is_known_where_the_host_ignores_its_children) {
  running_helper host(host_that_ignores_children);
  ASSERT_EQ(host.wait(), 0);
  EXPECT_EQ(board::get(1), 7U);
  EXPECT_EQ(board::get(2), static_cast<std::uint32_t>(SIGKILL));
}

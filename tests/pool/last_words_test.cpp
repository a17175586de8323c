// SPDX-License-Identifier: BSL-1.0
// Failures.05: what a worker had said before it died is heard, also when it left unread what it was
// told: the kernel then says that its channel is broken before it gives what came through it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <future>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;

carom::file_descriptor null_device() {
  return carom::file_descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}
bool is_open(const carom::file_descriptor& one) { return ::fcntl(one.get(), F_GETFD) >= 0; }

bool has_ended(int sentinel, int timeout_ms) {
  pollfd watched{sentinel, POLLIN, 0};
  return ::poll(&watched, 1, timeout_ms) == 1;
}

TEST_F(Failures, 05_descriptors_of_results_come_from_a_worker_that_died_with_messages_unread) {
  board::reset();
  // What is submitted while the host's loop looks at nothing goes to the worker together: nothing
  // is known yet of how long tasks take.
  std::promise<void> submitted;
  carom::pool pool{{.processes = 1,
                    .on_process_up = [all = submitted.get_future().share()](
                                         const carom::process_event&) { all.wait(); }}};
  const auto held = pool.apply_async(tasks::hold, 0U, 1U);
  // Nor does it look at anything from here until the worker is dead.
  held.then([](const auto& done) {
    const carom::file_descriptor sentinel(
        static_cast<int>(::syscall(SYS_pidfd_open, done.get(), 0)));
    EXPECT_TRUE(has_ended(sentinel.get(), 120'000));
  });
  const auto told = pool.apply_async(null_device);
  const auto killed = pool.apply_async(tasks::die_of, SIGKILL);
  // Its descriptor is sent ahead, and read when it is the task's turn.
  const auto unread = pool.apply_async(is_open, null_device());
  submitted.set_value();
  ASSERT_TRUE(carom::test::eventually([&] { return pool.workers().at(0).waiting == 3; }));
  const pid_t worker = pool.workers().at(0).pid;
  board::add(1);

  EXPECT_EQ(held.get(), worker);
  EXPECT_TRUE(is_open(told.get()));
  EXPECT_THROW(killed.get(), carom::worker_lost);
  EXPECT_TRUE(unread.get());
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// Failures.05: what a worker had said before it died is heard, also when it is dead before the host
// looks, and had been told of more. What it leaves unread of that is channel_test's business.
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

carom::file_descriptor a_device() {
  return carom::file_descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}
bool refers_to_something(const carom::file_descriptor& one) {
  return ::fcntl(one.get(), F_GETFD) >= 0;
}

bool ends_within(int sentinel, int timeout_ms) {
  pollfd watched{sentinel, POLLIN, 0};
  return ::poll(&watched, 1, timeout_ms) == 1;
}

TEST_F(Failures, 05_descriptors_of_results_come_from_a_worker_that_was_dead_when_the_host_looked) {
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
    EXPECT_TRUE(ends_within(sentinel.get(), 120'000));
  });
  const auto told = pool.apply_async(a_device);
  const auto killed = pool.apply_async(tasks::die_of, SIGKILL);
  // Its descriptor is sent ahead.
  const auto behind = pool.apply_async(refers_to_something, a_device());
  submitted.set_value();
  ASSERT_TRUE(carom::test::eventually([&] { return pool.workers().at(0).waiting == 3; }));
  const pid_t worker = pool.workers().at(0).pid;
  board::add(1);

  EXPECT_EQ(held.get(), worker);
  EXPECT_TRUE(refers_to_something(told.get()));
  EXPECT_THROW(killed.get(), carom::worker_lost);
  EXPECT_TRUE(behind.get());
}

}  // namespace

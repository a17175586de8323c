// SPDX-License-Identifier: BSL-1.0
// Rows of failures.md about who takes which signal: the host, its loop, what a task has forked.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>

#include <carom/carom.hpp>
#include <csignal>
#include <future>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

/// No thread can be made while it lives: its stack would be larger than memory can be.
class no_threads {
 public:
  no_threads() {
    ::pthread_getattr_default_np(&before_);
    pthread_attr_t vast;
    ::pthread_attr_init(&vast);
    ::pthread_attr_setstacksize(&vast, std::size_t{1} << 62);
    failed_ = ::pthread_setattr_default_np(&vast);
    ::pthread_attr_destroy(&vast);
  }
  ~no_threads() {
    ::pthread_setattr_default_np(&before_);
    ::pthread_attr_destroy(&before_);
  }
  int failed() const { return failed_; }

 private:
  pthread_attr_t before_;
  int failed_ = 0;
};

sigset_t blocked_now() {
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
  return now;
}

int end_of_an_aborting_child() {
  const pid_t child = ::fork();
  if (child == 0) ::abort();
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_F(Failures, 36_a_thread_that_cannot_be_made_leaves_the_signals_alone) {
  const sigset_t before = blocked_now();
  {
    const no_threads here;
    ASSERT_EQ(here.failed(), 0);
    EXPECT_ANY_THROW(carom::pool({.processes = 1}));
  }
  const sigset_t after = blocked_now();
  for (int signal = 1; signal < NSIG; ++signal)
    EXPECT_EQ(::sigismember(&after, signal), ::sigismember(&before, signal)) << signal;
  carom::pool pool({.processes = 1});
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Failures, 40_a_crash_in_a_callback_meets_the_hosts_own_handlers) {
  std::promise<sigset_t> seen;
  carom::pool pool({.processes = 1});
  pool.apply_async(tasks::square, 2).then([&](const auto&) { seen.set_value(blocked_now()); });
  const sigset_t blocked = seen.get_future().get();
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS})
    EXPECT_EQ(::sigismember(&blocked, own), 0) << own;
  for (const int hosts : {SIGTERM, SIGINT, SIGCHLD, SIGALRM, SIGUSR1})
    EXPECT_EQ(::sigismember(&blocked, hosts), 1) << hosts;
}

TEST_F(Failures, 23_a_child_of_a_task_ends_of_the_signal_that_ends_it) {
  for (const auto method : {carom::start_method::forkserver, carom::start_method::fork}) {
    carom::pool pool({.processes = 1, .start_method = method});
    const int status = pool.apply(end_of_an_aborting_child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGABRT);
  }
}

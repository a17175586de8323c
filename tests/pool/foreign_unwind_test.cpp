// SPDX-License-Identifier: BSL-1.0
// Failures.10: what unwinds a task and is no exception of C++, but one of another language, or
// pthread_exit, ends that task, and nothing in the host.
#include <gtest/gtest.h>
#include <pthread.h>
#include <unwind.h>

#include <carom/carom.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;

[[noreturn]] void raise_foreign() {
  static _Unwind_Exception thrown;
  std::memcpy(&thrown.exception_class, "OTHRLANG", sizeof thrown.exception_class);
  _Unwind_RaiseException(&thrown);
  std::abort();
}

int foreign_at_1(int i) {
  if (i == 1) raise_foreign();
  return i;
}
int thread_exit_at_1(int i) {
  if (i == 1) ::pthread_exit(nullptr);
  return i;
}

std::string cause_of_failing_starts(carom::packed_call initializer) {
  carom::pool pool{{.processes = 1, .initializer = std::move(initializer)}};
  try {
    pool.apply(tasks::square, 3);
  } catch (const carom::restart_freq_exceeded& e) {
    return e.cause();
  } catch (const carom::pool_closed& e) {
    return e.what();
  }
  return "it has started";
}

TEST_F(Failures, 10_an_exception_of_another_language_is_the_tasks_own_error) {
  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(pool.apply(foreign_at_1, 1), carom::remote_error);
  EXPECT_THROW(pool.apply_async(foreign_at_1, 1).to_future().get(), carom::remote_error);
  EXPECT_THROW(pool.map(foreign_at_1, std::vector{0, 1, 2}, 3), carom::remote_error);
  const auto all = pool.try_map(foreign_at_1, std::vector{0, 1, 2}, 3);
  EXPECT_EQ(all[0].value(), 0);
  EXPECT_THROW(all[1].value(), carom::remote_error);
  EXPECT_EQ(all[2].value(), 2);
  auto items = pool.imap(foreign_at_1, std::vector{0, 1, 2});
  EXPECT_EQ(items.next(), 0);
  EXPECT_THROW(items.next(), carom::remote_error);
  EXPECT_EQ(items.next(), 2);
  EXPECT_EQ(pool.apply(+[] { return std::uncaught_exceptions(); }), 0) << "none is left behind";
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Failures, 10_a_task_that_calls_pthread_exit_loses_its_worker) {
  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(pool.apply(thread_exit_at_1, 1), carom::worker_lost);
  EXPECT_THROW(pool.map(thread_exit_at_1, std::vector{0, 1, 2}, 3), carom::worker_lost);
  for (const bool timed : {false, true}) {
    SCOPED_TRACE(timed);
    carom::task_options options;
    if (timed) options.time_limit = 1h;
    const auto all = pool.try_map(options, thread_exit_at_1, std::vector{0, 1, 2}, 3);
    EXPECT_EQ(all[0].value(), 0);
    EXPECT_THROW(all[1].value(), carom::worker_lost);
    EXPECT_EQ(all[2].value(), 2);
  }
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Failures, 10_an_initializer_that_ends_by_another_unwinding_is_a_failed_start) {
  EXPECT_NE(cause_of_failing_starts(carom::call(foreign_at_1, 1)).find("no exception of C++"),
            std::string::npos);
  EXPECT_NE(cause_of_failing_starts(carom::call(thread_exit_at_1, 1)).find("SIGABRT"),
            std::string::npos);
}

}  // namespace

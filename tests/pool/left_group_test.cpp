// SPDX-License-Identifier: BSL-1.0
// Workers that leave the process group that carom made for them, as job control does.
#include <gtest/gtest.h>
#include <unistd.h>

#include <carom/errors.hpp>
#include <carom/pool.hpp>
#include <chrono>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
namespace board = carom::test::board;

constexpr carom::start_method all_start_methods[] = {
    carom::start_method::forkserver, carom::start_method::fork, carom::start_method::spawn};

/// Joins the group of a child of its own.
bool leave_own_group() {
  const pid_t other = ::fork();
  if (other == 0) {
    ::setpgid(0, 0);
    for (;;) ::pause();
  }
  ::setpgid(other, other);
  return ::setpgid(0, other) == 0 && ::getpgrp() == other;
}

int leave_group_and_stay() {
  if (leave_own_group()) board::add(begun);
  for (;;) ::pause();
}

}  // namespace

TEST_F(Failures, 14_a_worker_that_left_its_group_is_killed_by_its_limit) {
  for (const auto method : all_start_methods) {
    SCOPED_TRACE(carom::to_string(method));
    carom::pool pool{{.processes = 1, .start_method = method, .kill_grace = 50ms}};
    auto limited = pool.apply_async({.time_limit = 200ms}, leave_group_and_stay);
    EXPECT_THROW(limited.get(), carom::time_limit_exceeded);
    EXPECT_EQ(pool.apply(tasks::square, 3), 9);
    board::reset();  // a slow machine may have killed the first before it came so far
    auto ended = pool.apply_async(leave_group_and_stay);
    EXPECT_TRUE(board::wait(begun));
    EXPECT_TRUE(ended.terminate());
    EXPECT_THROW(ended.get(), carom::terminated);
    EXPECT_EQ(pool.apply(tasks::square, 4), 16);
  }
}

TEST_F(Failures, 14_pools_end_whose_workers_left_their_group) {
  for (const auto method : all_start_methods) {
    SCOPED_TRACE(carom::to_string(method));
    carom::pool closed{{.processes = 1, .start_method = method, .kill_grace = 50ms}};
    EXPECT_TRUE(closed.apply(leave_own_group));
    closed.close();
    closed.join();
    carom::pool dropped{{.processes = 1, .start_method = method, .kill_grace = 50ms}};
    board::reset();
    auto lost = dropped.apply_async(leave_group_and_stay);
    EXPECT_TRUE(board::wait(begun));
  }
}

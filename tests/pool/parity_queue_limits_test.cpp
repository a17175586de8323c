// SPDX-License-Identifier: BSL-1.0
// Time limits of tasks that use queues.
#include <gtest/gtest.h>
#include <signal.h>

#include <carom/connection.hpp>
#include <carom/errors.hpp>
#include <carom/pool.hpp>
#include <carom/queue.hpp>
#include <carom/this_task.hpp>
#include <chrono>
#include <string>
#include <utility>

#include "tests/support/board.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
namespace board = carom::test::board;
using carom::test::forked;

enum slots : unsigned { called_back };

/// What a put sends ahead of a large item soon has no room, as nobody receives it.
void put_for_ever(carom::queue<std::string> q) {
  carom::this_task::on_soft_time_limit([q]() mutable {
    q.close();
    board::add(called_back);
  });
  const std::string large(100'000, 'x');
  for (;;) q.put(large);
}

TEST_F(Parity, Pool_soft_limit_ends_a_put_to_a_stopped_host_and_its_callback_may_use_the_queue) {
  auto [here, there] = carom::pipe();
  forked host([&, &there = there] {
    const carom::queue<std::string> q;
    there.send(q);
    (void)there.recv<int>();
    return true;
  });
  auto q = here.recv<carom::queue<std::string>>();
  ASSERT_EQ(::kill(host.pid(), SIGSTOP), 0);

  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(
      pool.apply_async({.time_limit = 60s, .soft_time_limit = 200ms}, put_for_ever, q).get(),
      carom::soft_time_limit_exceeded);
  EXPECT_EQ(board::get(called_back), 1u);

  ASSERT_EQ(::kill(host.pid(), SIGCONT), 0);
  here.send(1);
  EXPECT_TRUE(host.succeeded());
}

}  // namespace

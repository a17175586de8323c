// SPDX-License-Identifier: BSL-1.0
// Rows `close`, `terminate`, `join` and the destructor of api.md.
#include <gtest/gtest.h>

#include <sys/wait.h>

#include <carom/carom.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using namespace std::chrono_literals;

template <class R>
void expect_terminated(const carom::async_result<R>& result) {
  ASSERT_TRUE(result.wait(30s)) << "not settled";
  EXPECT_THROW(result.get(), carom::terminated);
}

}  // namespace

TEST_F(Parity, Pool_close_delivers_every_result) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 5000; ++i) results.push_back(pool.apply_async(tasks::square, i));
  const auto large = pool.apply_async([] { return std::string(2 << 20, 'x'); });
  const auto mapped = pool.map_async(tasks::square, std::vector(1000, 3));
  pool.close();
  pool.join();
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(results[static_cast<std::size_t>(i)].ready());
    EXPECT_EQ(results[static_cast<std::size_t>(i)].get(), i * i);
  }
  EXPECT_EQ(large.get().size(), 2U << 20);
  EXPECT_EQ(mapped.get(), std::vector(1000, 9));
}

TEST_F(Parity, Pool_close_refuses_what_comes_after) {
  carom::pool pool{{.processes = 1}};
  pool.close();
  EXPECT_THROW(pool.apply(tasks::nothing), carom::pool_closed);
  EXPECT_THROW(pool.apply_async(tasks::nothing), carom::pool_closed);
  EXPECT_THROW(pool.map(tasks::square, std::vector{1}), carom::pool_closed);
  EXPECT_THROW(pool.try_map(tasks::square, std::vector{1}), carom::pool_closed);
  EXPECT_THROW(pool.imap(tasks::square, std::vector{1}).next(), carom::pool_closed);
  pool.join();
  EXPECT_THROW(pool.apply(tasks::nothing), carom::pool_closed);
}

TEST_F(Parity, Pool_close_survives_a_lost_worker) {
  carom::pool pool{{.processes = 1}};
  const auto lost = pool.apply_async(tasks::die_of, SIGKILL);
  std::vector<carom::async_result<int>> later;
  for (int i = 0; i < 100; ++i) later.push_back(pool.apply_async(tasks::square, i));
  pool.close();
  pool.join();
  EXPECT_THROW(lost.get(), carom::worker_lost);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(later[static_cast<std::size_t>(i)].get(), i * i);
}

TEST_F(Parity, Pool_terminate_settles_every_task) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 2; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  ASSERT_TRUE(board::wait(begun, 2));
  std::vector<carom::async_result<int>> queued;
  for (int i = 0; i < 1000; ++i) queued.push_back(pool.apply_async(tasks::square, i));
  const auto mapped = pool.map_async(tasks::square, std::vector(100, 2), 10);
  pool.terminate();
  for (const auto& each : held) expect_terminated(each);
  for (const auto& each : queued) expect_terminated(each);
  expect_terminated(mapped);
  EXPECT_THROW(pool.apply_async(tasks::nothing), carom::pool_closed);
  pool.join();
}

TEST_F(Parity, Pool_terminate_keeps_what_was_done) {
  carom::pool pool{{.processes = 1}};
  const auto done = pool.apply_async(tasks::square, 4);
  done.wait();
  pool.terminate();
  EXPECT_EQ(done.get(), 16);
  pool.join();
}

TEST_F(Parity, Pool_terminate_says_which_task) {
  carom::register_task("tests.hold", tasks::hold);
  carom::pool pool{{.processes = 1}};
  const auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  pool.terminate();
  try {
    held.get(30s);
    FAIL() << "nothing thrown";
  } catch (const carom::terminated& e) {
    EXPECT_EQ(e.task_name(), "tests.hold");
    EXPECT_EQ(e.task_id(), held.id());
  }
}

TEST_F(Parity, Pool_join_without_close) {
  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(pool.join(), carom::error);
  EXPECT_THROW(pool.join(10ms), carom::error);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9) << "nothing has changed";
}

TEST_F(Parity, Pool_join_with_timeout) {
  carom::pool pool{{.processes = 1}};
  const auto held = pool.apply_async(tasks::hold, begun, release);
  pool.close();
  const auto before = std::chrono::steady_clock::now();
  EXPECT_THROW(pool.join(30ms), carom::timeout_error);
  EXPECT_GE(std::chrono::steady_clock::now() - before, 30ms);
  board::set(release, 1);
  pool.join(30s);
  EXPECT_GT(held.get(), 0);
  pool.join();
  pool.join(0s);
}

TEST_F(Parity, Pool_join_waits_until_the_workers_are_gone) {
  carom::pool pool{{.processes = 3}};
  const pid_t worker = pool.apply(tasks::worker);
  pool.close();
  pool.join();
  EXPECT_FALSE(carom::test::is_of_family(::getpid(), worker));
}

TEST_F(Parity, Pool_join_on_the_loop_thread_is_an_error) {
  carom::pool pool{{.processes = 1}};
  std::promise<bool> refused;
  const auto held = pool.apply_async(tasks::hold, begun, release);
  held.then([&](auto) {
    try {
      pool.join();
      refused.set_value(false);
    } catch (const carom::error&) {
      refused.set_value(true);
    }
  });
  pool.close();
  board::set(release, 1);
  EXPECT_TRUE(refused.get_future().get());
  pool.join();
}

TEST_F(Parity, Pool_close_and_terminate_again) {
  carom::pool pool{{.processes = 1}};
  const auto held = pool.apply_async(tasks::hold, begun, release);
  pool.close();
  pool.close();
  pool.terminate();
  pool.terminate();
  pool.close();
  pool.join();
  EXPECT_THROW(held.get(), carom::terminated);
  pool.terminate();
}

TEST_F(Parity, Pool_destructor_with_running_tasks) {
  std::vector<carom::async_result<pid_t>> held;
  {
    carom::pool pool{{.processes = 2}};
    for (int i = 0; i < 5; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
    ASSERT_TRUE(board::wait(begun, 2));
  }
  for (const auto& each : held) {
    EXPECT_TRUE(each.ready());
    EXPECT_THROW(each.get(), carom::terminated);
  }
}

TEST_F(Parity, Pool_destructor_before_its_workers_are_ready) {
  for (int i = 0; i < 20; ++i) {
    carom::pool pool{{.processes = 4}};
    if (i % 2) pool.apply_async(tasks::nothing);
  }
}

TEST_F(Parity, Pool_destructor_in_a_forked_copy_only_closes) {
  auto pool = std::make_unique<carom::pool>(carom::pool_options{.processes = 1});
  const pid_t worker = pool->apply(tasks::worker);
  const pid_t copy = ::fork();
  if (copy == 0) {
    pool.reset();
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(copy, &status, 0), copy);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(pool->apply(tasks::worker), worker) << "the pool of the owner lives";
}

TEST_F(Parity, Pool_waiting_in_a_forked_copy_is_refused) {
  carom::pool pool{{.processes = 1}};
  auto running = pool.apply_async(tasks::hold, begun, release);
  auto ordered = pool.imap(tasks::square, std::vector{1, 2});
  auto unordered = pool.imap_unordered(tasks::square, std::vector{1, 2});
  EXPECT_THROW(ordered.next(0ns), carom::timeout_error);
  EXPECT_THROW(unordered.next(0ns), carom::timeout_error);
  ASSERT_TRUE(board::wait(begun));
  carom::test::forked copy([&] {
    // Nothing of it would ever change here.
    EXPECT_THROW(running.get(), carom::pool_closed);
    EXPECT_THROW(ordered.next(), carom::pool_closed);
    EXPECT_THROW(unordered.next(), carom::pool_closed);
    EXPECT_THROW(running.wait(), carom::pool_closed);
    EXPECT_THROW(pool.join(), carom::pool_closed);
    carom::pool own{{.processes = 1}};
    EXPECT_EQ(own.apply_async(tasks::square, 3).get(), 9);
    return !testing::Test::HasFailure();
  });
  EXPECT_TRUE(copy.succeeded());
  board::set(release, 1);
  EXPECT_NO_THROW(running.get());
}

TEST_F(Parity, Pool_moves) {
  carom::pool first{{.processes = 1}};
  const pid_t worker = first.apply(tasks::worker);
  carom::pool second = std::move(first);
  EXPECT_EQ(second.apply(tasks::worker), worker);
  const auto held = second.apply_async(tasks::hold, begun, release);
  carom::pool third{{.processes = 1}};
  second = std::move(third);
  EXPECT_THROW(held.get(), carom::terminated) << "what was assigned over is destroyed";
  EXPECT_NE(second.apply(tasks::worker), worker);
}

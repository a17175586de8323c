// SPDX-License-Identifier: BSL-1.0
// Rows of api.md about workers: `grow`, `shrink`, `restart`, `did_start_ok`, `on_process_exit`, and
// what tells of them.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using namespace std::chrono_literals;

constexpr unsigned left = 2;

void say_left() { board::add(left); }

std::set<pid_t> pids(const carom::pool& pool) {
  std::set<pid_t> all;
  for (const auto& one : pool.workers())
    if (one.pid != 0 && one.state != carom::worker_state::leaving) all.insert(one.pid);
  return all;
}
bool all_idle(const carom::pool& pool, std::size_t count) {
  const auto all = pool.workers();
  return all.size() == count && std::all_of(all.begin(), all.end(), [](const auto& w) {
           return w.state == carom::worker_state::idle;
         });
}

TEST_F(Parity, Pool_grow_and_shrink) {
  carom::pool pool{{.processes = 2}};
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 2); }));
  pool.grow(3);
  EXPECT_EQ(pool.processes(), 5);
  EXPECT_TRUE(eventually([&] { return all_idle(pool, 5); }));
  pool.shrink(4);
  EXPECT_EQ(pool.processes(), 1);
  EXPECT_TRUE(eventually([&] { return all_idle(pool, 1); }));
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(pool.metrics().died_workers, 0u);
}

TEST_F(Parity, Pool_shrink_of_busy_workers) {
  carom::pool pool{{.processes = 2}};
  auto first = pool.apply_async(tasks::hold, begun, release);
  auto second = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun, 2));
  EXPECT_THROW(pool.shrink(1), carom::process_error) << "all are busy";
  EXPECT_EQ(pool.processes(), 2);
  EXPECT_THROW(pool.shrink(2, carom::shrinking::drain), std::invalid_argument) << "one stays";
  EXPECT_THROW(pool.shrink(0), std::invalid_argument);
  EXPECT_THROW(pool.grow(-1), std::invalid_argument);
  EXPECT_THROW(pool.grow(1'000'000), std::invalid_argument);
  pool.shrink(1, carom::shrinking::drain);
  EXPECT_EQ(pool.processes(), 1);
  board::set(release, 1);
  EXPECT_NO_THROW(first.get());
  EXPECT_NO_THROW(second.get()) << "each finishes what it has begun";
  EXPECT_TRUE(eventually([&] { return all_idle(pool, 1); }));
}

TEST_F(Parity, Pool_restart_replaces_every_worker) {
  carom::pool pool{{.processes = 3}};
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 3); }));
  const auto before = pids(pool);
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  pool.restart();
  EXPECT_TRUE(eventually([&] {
    const auto now = pids(pool);
    std::size_t old = 0;
    for (const pid_t pid : now) old += before.contains(pid);
    return old == 1;
  })) << "all but the one that works";
  EXPECT_FALSE(held.ready());
  board::set(release, 1);
  EXPECT_TRUE(before.contains(held.get())) << "it finishes its task first";
  EXPECT_TRUE(eventually([&] {
    const auto now = pids(pool);
    return now.size() == 3 &&
           std::none_of(now.begin(), now.end(), [&](pid_t pid) { return before.contains(pid); });
  }));
  EXPECT_EQ(pool.metrics().died_workers, 0u);
  pool.close();
  EXPECT_THROW(pool.restart(), carom::pool_closed);
}

TEST_F(Parity, Pool_autoscale) {
  carom::pool pool{{.processes = 1,
                    .autoscale = carom::autoscale_options{
                        .min = 1, .max = 4, .idle_time = 50ms, .interval = 5ms}}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 20; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  EXPECT_TRUE(board::wait(begun, 4)) << "it grows while tasks wait";
  EXPECT_TRUE(eventually([&] { return pool.processes() == 4; }));
  board::set(release, 1);
  for (auto& each : held) EXPECT_NO_THROW(each.get()) << "nobody who works is taken away";
  EXPECT_TRUE(eventually([&] { return all_idle(pool, 1); })) << "and shrinks when they idle";
  EXPECT_THROW(carom::pool({.processes = 9, .autoscale = carom::autoscale_options{.max = 4}}),
               std::invalid_argument);
}

TEST_F(Parity, Pool_workers_snapshot) {
  carom::pool pool{{.processes = 2}};
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 2); }));
  auto held = pool.apply_async({.correlation_id = "of-the-test"}, tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  int busy = 0;
  int sentinel_of_busy = -1;
  std::vector<carom::worker_info> kept = pool.workers();
  for (const auto& one : kept) {
    EXPECT_GT(one.pid, 0);
    EXPECT_GE(one.sentinel(), 0);
    EXPECT_GT(one.memory, 0u);
    if (one.state != carom::worker_state::busy) continue;
    ++busy;
    EXPECT_EQ(one.task_id, held.id());
    EXPECT_NE(one.task_name.find("of-the-test"), std::string::npos) << one.task_name;
    EXPECT_GT(one.running_for.count(), 0);
    EXPECT_EQ(one.pid, held.worker_pid());
    sentinel_of_busy = one.sentinel();
  }
  EXPECT_EQ(busy, 1);
  pollfd ended{sentinel_of_busy, POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 0), 0);
  EXPECT_TRUE(held.terminate());
  EXPECT_EQ(::poll(&ended, 1, 20'000), 1) << "a sentinel tells of the end";
}

void report_and_hold(std::uint64_t done, std::uint64_t total) {
  carom::this_task::progress(done, total);
  tasks::hold(begun, release);
}

TEST_F(Parity, Pool_workers_show_the_progress_of_tasks) {
  carom::this_task::progress(1, 2);  // outside a task it does nothing
  carom::pool pool{{.processes = 1}};
  auto held = pool.apply_async(report_and_hold, 3, 10);
  ASSERT_TRUE(board::wait(begun));
  const auto busy = pool.workers();
  ASSERT_EQ(busy.size(), 1u);
  EXPECT_EQ(busy[0].progress_done, 3u);
  EXPECT_EQ(busy[0].progress_total, 10u);
  board::add(release);
  held.get();
  board::set(begun, 0);
  board::set(release, 0);
  auto silent = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  EXPECT_EQ(pool.workers().at(0).progress_total, 0u) << "the next task has said nothing yet";
  board::add(release);
  silent.get();
}

TEST_F(Parity, Pool_metrics) {
  carom::pool pool{{.processes = 1}};
  for (int i = 0; i < 10; ++i) pool.apply(tasks::square, i);
  EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  auto held = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  std::vector<carom::async_result<int>> waiting;
  for (int i = 0; i < 100; ++i) waiting.push_back(pool.apply_async(tasks::square, i));
  const auto m = pool.metrics();
  EXPECT_EQ(m.workers, 1u);
  EXPECT_EQ(m.idle, 0u);
  EXPECT_EQ(m.pending + m.under_way, 101u);
  EXPECT_EQ(m.finished, 10u);
  EXPECT_EQ(m.lost, 1u);
  EXPECT_EQ(m.started_workers, 2u);
  EXPECT_EQ(m.died_workers, 1u);
  EXPECT_EQ(m.dispatched, 12u + m.under_way - 1);
  board::set(release, 1);
  for (auto& each : waiting) each.get();
  EXPECT_GE(pool.metrics().longest_wait.count(), 0);
  EXPECT_GE(pool.metrics().waited, pool.metrics().longest_wait);
}

TEST_F(Parity, Pool_metrics_count_how_tasks_end) {
  carom::pool pool{{.processes = 1}};
  const auto checkpoints = [] {
    board::add(begun);
    for (;;) carom::this_task::sleep_for(1h);
  };
  EXPECT_THROW(pool.apply({.soft_time_limit = 20ms}, checkpoints), carom::soft_time_limit_exceeded);
  EXPECT_THROW(pool.apply({.time_limit = 20ms}, checkpoints), carom::time_limit_exceeded);
  EXPECT_THROW(pool.apply({.retry = carom::retry_options{.attempts = 3}}, tasks::die_of, SIGKILL),
               carom::worker_lost);
  EXPECT_THROW(pool.apply([] { throw std::range_error("of its own"); }), std::range_error);
  board::set(begun, 0);
  auto running = pool.apply_async(checkpoints);
  ASSERT_TRUE(board::wait(begun));
  auto queued = pool.apply_async(tasks::square, 1);
  EXPECT_TRUE(queued.cancel());
  EXPECT_TRUE(running.terminate());
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 1); }));
  const auto m = pool.metrics();
  EXPECT_EQ(m.soft_timed_out, 1u);
  EXPECT_EQ(m.timed_out, 1u);
  EXPECT_EQ(m.retried, 2u);
  EXPECT_EQ(m.lost, 1u);
  EXPECT_EQ(m.finished, 2u) << "in the soft limit's exception, and in its own";
  EXPECT_EQ(m.terminated, 2u);
  EXPECT_EQ(m.expired, 0u);
  EXPECT_EQ(m.died_workers, 3u);
  EXPECT_EQ(m.started_workers, 6u) << "the first, and one after each that was killed or died";
  EXPECT_EQ(m.recycled_workers, 0u);
  EXPECT_EQ(m.workers, 1u);
  EXPECT_EQ(m.idle, 1u);
  EXPECT_EQ(m.pending + m.under_way, 0u);
}

TEST_F(Parity, Pool_did_start_ok) {
  carom::pool pool{{.processes = 2}};
  ASSERT_TRUE(eventually([&] { return all_idle(pool, 2); }));
  EXPECT_TRUE(pool.did_start_ok());
  EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  EXPECT_TRUE(pool.did_start_ok()) << "that was later";
  carom::pool broken{{.processes = 1, .initializer = carom::call(tasks::die_of, SIGKILL)}};
  EXPECT_TRUE(eventually([&] { return !broken.did_start_ok(); }));
}

TEST_F(Parity, Pool_that_has_ended_still_tells_what_was) {
  carom::pool pool{{.processes = 1}};
  for (int i = 0; i < 3; ++i) pool.apply(tasks::square, i);
  EXPECT_THROW(pool.apply(tasks::die_of, SIGKILL), carom::worker_lost);
  pool.close();
  pool.join(60s);
  EXPECT_EQ(pool.metrics().finished, 3u);
  EXPECT_EQ(pool.metrics().lost, 1u);
  EXPECT_EQ(pool.metrics().died_workers, 1u);
  EXPECT_TRUE(pool.did_start_ok());
  carom::pool broken{{.processes = 1, .initializer = carom::call(tasks::die_of, SIGKILL)}};
  EXPECT_THROW(pool.apply(tasks::square, 1), carom::pool_closed);
  EXPECT_THROW({ broken.apply_async(tasks::hold, begun, release).get(); }, carom::error);
  broken.close();
  broken.join(60s);
  EXPECT_FALSE(broken.did_start_ok());
  EXPECT_EQ(broken.metrics().died_workers, 11u);
}

TEST_F(Parity, Pool_on_process_exit) {
  {
    carom::pool pool{{.processes = 2, .on_process_exit = carom::call(say_left)}};
    ASSERT_TRUE(eventually([&] { return all_idle(pool, 2); }));
    pool.close();
    pool.join();
  }
  EXPECT_EQ(board::get(left), 2u);
}

TEST_F(Parity, Pool_completion_fd) {
  carom::pool pool{{.processes = 1}};
  const int fd = pool.completion_fd();
  EXPECT_EQ(pool.completion_fd(), fd);
  pollfd readable{fd, POLLIN, 0};
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
  auto result = pool.apply_async(tasks::square, 3);
  ASSERT_EQ(::poll(&readable, 1, 20'000), 1);
  std::uint64_t count = 0;
  EXPECT_EQ(::read(fd, &count, sizeof count), 8);
  EXPECT_TRUE(result.ready());
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
  auto lost = pool.apply_async(tasks::die_of, SIGKILL);
  ASSERT_EQ(::poll(&readable, 1, 20'000), 1);
  EXPECT_TRUE(eventually([&] { return lost.ready(); }));
}

}  // namespace

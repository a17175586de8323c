// SPDX-License-Identifier: BSL-1.0
// Rows 19, 37 and 38 of failures.md as far as queues are concerned; the death of a host.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <carom/pool.hpp>
#include <carom/queue.hpp>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/queue/queue_support.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

using namespace std::chrono_literals;
using carom::test::forked_process;
namespace board = carom::test::board;

TEST_F(Failures, 38_undrained_queue_a_process_that_put_much_ends) {
  carom::queue<std::string> q;
  // The loop has done all of it once: ASan does not guard its lists of stacks across a fork.
  q.put(std::string(100'000, 'x'));
  (void)q.get();
  forked_process producer([&] {
    for (int i = 0; i < 20'000; ++i) q.put(std::string(100, 'x'));
    for (int i = 0; i < 50; ++i) q.put(std::string(100'000, 'x'));
    q.close();
    q.join_thread();
    return 0;
  });
  EXPECT_EQ(producer.wait(), 0) << "though nobody gets";
  EXPECT_EQ(q.qsize(), 20'050u);
}

TEST_F(Failures, 38_undrained_queue_of_a_pool_that_ends) {
  carom::queue<int> q;
  {
    carom::pool pool{{.processes = 2}};
    const auto put_much = [](carom::queue<int> to) {
      for (int i = 0; i < 10'000; ++i) to.put(i);
    };
    for (int i = 0; i < 4; ++i) pool.apply(put_much, q);
    pool.close();
    pool.join();
  }
  EXPECT_EQ(q.qsize(), 40'000u);
}

TEST_F(Failures, 38_undrained_queue_full_one_lets_its_putter_go_in_time) {
  carom::queue<int> q(1);
  forked_process producer([&] {
    q.put(1);
    try {
      q.put(2, 20ms);
    } catch (const carom::queue_full&) {
      q.close();
      q.join_thread(20s);
      return 3;
    }
    return 0;
  });
  EXPECT_EQ(producer.wait(), 3);
}

/// A host that is killed while others use its queue in every way.
TEST_F(Failures, 38_undrained_queue_host_killed_ends_every_wait) {
  const auto fails = [](const std::function<void()>& f) {
    try {
      f();
    } catch (const carom::process_error&) {
      return 1u;
    }
    return 0u;
  };
  board::set(10, 0);
  forked_process host([&] {
    carom::queue<int> empty, full(1);
    carom::joinable_queue<int> undone;
    full.put(1);
    undone.put(1);
    std::vector<forked_process> clients;
    const auto client = [&](unsigned slot, const std::function<void()>& f) {
      clients.emplace_back([=] {
        board::add(0);
        board::set(slot, 1 + fails(f));
        return 0;
      });
    };
    client(1, [=]() mutable { (void)empty.get(); });
    client(2, [=]() mutable { full.put(2); });
    client(3, [=]() mutable { undone.join(); });
    client(4, [=]() mutable {
      for (;;) empty.put(1);
    });
    client(5, [=]() mutable {
      for (;;) (void)empty.qsize();
    });
    if (!board::wait(0, 5)) return 1;
    board::set(10, 1);
    board::wait(11);
    return 0;
  });
  ASSERT_TRUE(board::wait(10));
  carom::test::let_pass(20ms);
  host.kill();
  EXPECT_EQ(host.wait(), -SIGKILL);
  for (const unsigned slot : {2u, 3u, 4u, 5u}) {
    EXPECT_TRUE(board::wait(slot)) << slot;
    EXPECT_EQ(board::get(slot), 2u) << slot;
  }
  // The first may have got what the fourth put before.
  EXPECT_TRUE(board::wait(1));
}

TEST_F(Failures, 19_queue_whose_host_has_no_descriptor_for_a_moment_loses_nothing) {
  carom::queue<int> q;
  q.put(1);
  (void)q.get();
  carom::test::let_threads_rest();
  std::vector<forked_process> clients;
  for (int i = 0; i < 3; ++i)
    clients.emplace_back([&, i] {
      if (!board::wait(0)) return 1;
      q.put(i);
      board::add(1);
      return board::wait(2) ? 10 + q.get() : 1;
    });
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit none{3, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  board::set(0, 1);
  ASSERT_TRUE(board::wait(1, 3));
  carom::test::let_pass(50ms);
  EXPECT_EQ(q.qsize(), 0u) << "nobody has been let in";
  ::setrlimit(RLIMIT_NOFILE, &before);
  int sum = 0;
  for (int i = 0; i < 3; ++i) sum += q.get();
  EXPECT_EQ(sum, 0 + 1 + 2);
  for (int i = 0; i < 3; ++i) q.put(i);
  board::set(2, 1);
  sum = 0;
  for (auto& one : clients) sum += one.wait();
  EXPECT_EQ(sum, 10 + 11 + 12);
}

TEST_F(Failures, 38_undrained_queue_a_dead_host_is_told_by_put_and_get) {
  forked_process host([&] {
    carom::queue<int> q;
    forked_process client([&] {
      q.put(1);
      board::set(0, 1);
      if (!board::wait(1)) return 1;
      for (const int what : {0, 1, 2, 3}) {
        try {
          // A put into memory that is shared tells as soon as the host's end is known here.
          while (what == 0) q.put(2);
          if (what == 1) (void)q.qsize();
          while (what == 2) q.put_nowait(3);
          if (what == 3) {
            (void)q.get();
            (void)q.get();
          }
          board::set(2, 100 + static_cast<std::uint32_t>(what));
          return 1;
        } catch (const carom::process_error&) {
        }
      }
      board::set(2, 1);
      return 0;
    });
    board::wait(3);
    return 0;
  });
  ASSERT_TRUE(board::wait(0));
  host.kill();
  EXPECT_EQ(host.wait(), -SIGKILL);
  board::set(1, 1);
  EXPECT_TRUE(board::wait(2));
  EXPECT_EQ(board::get(2), 1u);
}

TEST_F(Failures, 37_leaks_ten_thousand_queues_leave_nothing_behind) {
  const auto cycle = [] {
    carom::joinable_queue<int> q(3);
    q.put(1);
    (void)q.get();
    q.task_done();
  };
  cycle();
  const auto before = carom::test::holdings::now();
  const int cycles = std::getenv("CAROM_FULL") ? 10'000 : 300;
  for (int i = 0; i < cycles; ++i) cycle();
  EXPECT_TRUE(carom::test::eventually([&] { return carom::test::holdings::now().within(before); }))
      << before << '\n'
      << carom::test::holdings::now();
}

TEST_F(Failures, 37_leaks_clients_that_come_and_go_leave_nothing_with_the_host) {
  carom::queue<int> q;
  carom::pool pool{{.processes = 2}};
  const auto use = [](carom::queue<int> to) { to.put(1); };
  pool.apply(use, q);
  (void)q.get();
  const auto settled = [&] { return carom::test::open_descriptors(::getpid()); };
  const auto before = settled();
  const int cycles = std::getenv("CAROM_FULL") ? 10'000 : 500;
  for (int i = 0; i < cycles; ++i) {
    pool.apply(use, q);
    ASSERT_EQ(q.get(), 1);
  }
  EXPECT_TRUE(carom::test::eventually([&] { return settled() <= before; }))
      << before << " " << settled();
}

TEST_F(Failures, 37_leaks_a_queue_outlives_its_first_handle_and_no_longer) {
  const auto threads = carom::test::threads_of(::getpid());
  std::vector<forked_process> client;
  {
    carom::queue<int> q;
    client.emplace_back([q]() mutable {
      if (!board::wait(0)) return 1;
      for (int i = 0; i < 100; ++i) q.put(i);
      for (int i = 0; i < 100; ++i)
        if (q.get() != i) return 2;
      return 0;
    });
  }
  EXPECT_GT(carom::test::threads_of(::getpid()), threads) << "the client has a handle yet";
  board::set(0, 1);
  EXPECT_EQ(client[0].wait(), 0);
  EXPECT_TRUE(
      carom::test::eventually([&] { return carom::test::threads_of(::getpid()) <= threads; }));
}

}  // namespace

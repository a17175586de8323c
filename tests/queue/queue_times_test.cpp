// SPDX-License-Identifier: BSL-1.0
// Times of queues, and who may not be made to wait: the loop thread.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <carom/carom.hpp>
#include <carom/queue.hpp>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/queue/queue_support.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

using namespace std::chrono_literals;
using carom::queue_empty;
using carom::queue_full;
using carom::test::eventually;
using carom::test::forked_process;
namespace queue_board = carom::test::board;

/// Times so short that nobody can have delivered anything meanwhile.
constexpr std::chrono::nanoseconds times[] = {-1h, 0ns, 1ns, 1us, 20us};

TEST_F(Parity, Queue_get_of_no_time_or_little_finds_what_is_there) {
  for (int i = 0; i < 50; ++i) {
    carom::queue<int> q;
    int next = 0;
    for (const auto time : times) {
      q.put(next);
      EXPECT_EQ(q.get(time), next++);
      EXPECT_THROW(q.get(time), queue_empty);
    }
  }
}

TEST_F(Parity, Queue_put_of_no_time_or_little_finds_room_that_is_there) {
  for (int i = 0; i < 50; ++i) {
    carom::queue<int> q(1);
    for (const auto time : times) {
      q.put(1, time);
      EXPECT_THROW(q.put(2, time), queue_full);
      EXPECT_EQ(q.get_nowait(), 1);
    }
  }
}

TEST_F(Parity, Queue_of_another_process_is_looked_at_in_no_time) {
  carom::queue<int> q(1);
  q.put(7);
  forked_process other([&] {
    try {
      q.put(8, 0s);
      return 1;
    } catch (const queue_full&) {
    }
    if (q.get(0s) != 7) return 2;
    try {
      (void)q.get(1us);
      return 3;
    } catch (const queue_empty&) {
    }
    q.put(9, 1ns);
    return 0;
  });
  EXPECT_EQ(other.wait(), 0);
  EXPECT_EQ(q.get(0s), 9);
}

TEST_F(Parity, Queue_looks_on_the_loop_thread_with_no_time) {
  carom::queue<int> q(1);
  carom::pool pool{{.processes = 1}};
  std::promise<int> got;
  pool.apply_async(+[] { return 1; }).then([&](auto) {
    try {
      q.put(5, 0s);
      got.set_value(q.get(0s));
    } catch (...) {
      got.set_exception(std::current_exception());
    }
  });
  EXPECT_EQ(got.get_future().get(), 5);
}

/// The host takes in what has been put on the loop thread, where a callback uses the queue now.
TEST_F(Failures, 38_undrained_queue_used_in_a_callback_while_another_thread_puts) {
  carom::queue<std::string> q;
  carom::pool pool{{.processes = 1}};
  std::promise<void> in_callback;
  std::promise<std::uint64_t> result;
  std::atomic<int> put{0};
  pool.apply_async(+[] { return 1; }).then([&](auto) {
    in_callback.set_value();
    // Until the other one waits for the host, as far as that can be seen.
    int before = -1;
    eventually([&] {
      const int now = put.load();
      carom::test::let_pass(20ms);
      return now != 0 && std::exchange(before, now) == now;
    });
    try {
      try {
        (void)q.get_nowait();
      } catch (const queue_empty&) {
      }
      try {
        q.put_nowait("small");
      } catch (const queue_full&) {
      }
      result.set_value(q.qsize());
    } catch (...) {
      result.set_exception(std::current_exception());
    }
  });
  in_callback.get_future().wait();
  const std::string large(100'000, 'x');
  EXPECT_NO_THROW({
    for (int i = 0; i < 600; ++i) {
      q.put(large);
      ++put;
    }
  });
  EXPECT_NO_THROW((void)result.get_future().get());
  EXPECT_GE(q.qsize(), 600u);
}

TEST_F(Failures, 38_undrained_queue_whose_host_is_stopped_holds_up_nobody_who_has_a_time) {
  forked_process host([] {
    carom::joinable_queue<int> q(1);
    forked_process client([&] {
      q.put(1);
      queue_board::set(0, 1);
      if (!queue_board::wait(1)) return 1;
      // The host is stopped; what it had delivered may be there yet.
      const auto begun = std::chrono::steady_clock::now();
      const auto ends = [](auto&& f) {
        try {
          f();
        } catch (const queue_empty&) {
        } catch (const carom::queue_full&) {
        }
      };
      ends([&] { (void)q.get_nowait(); });
      ends([&] { (void)q.get(0ms); });
      ends([&] { q.put_nowait(2); });
      ends([&] { q.put(2, -1s); });
      const bool joined = q.join(50ms) || q.join(0ms);
      q.close();
      ends([&] { (void)q.get(50ms); });
      const auto took = std::chrono::steady_clock::now() - begun;
      queue_board::set(2, !joined && took < 30s ? 100 : 101);
      return queue_board::wait(3) ? 0 : 2;
    });
    return client.wait();
  });
  ASSERT_TRUE(queue_board::wait(0));
  host.kill(SIGSTOP);
  queue_board::set(1, 1);
  EXPECT_TRUE(queue_board::wait(2));
  EXPECT_EQ(queue_board::get(2), 100u);
  host.kill(SIGCONT);
  queue_board::set(3, 1);
  EXPECT_EQ(host.wait(), 0);
}

TEST_F(Failures, 38_undrained_queue_close_has_a_deadline_when_the_host_is_stopped) {
  forked_process host([] {
    carom::queue<int> q;
    forked_process client([&] {
      q.put(1);
      queue_board::set(0, 1);
      if (!queue_board::wait(1)) return 1;
      // The host is stopped. What is put now waits in memory that it shares.
      q.put(2);
      int told = 0;
      try {
        (void)q.get(50ms);
      } catch (const queue_empty&) {
        told |= 1;
      } catch (const carom::process_error&) {
        told |= 1;
      }
      q.close();
      try {
        q.join_thread(50ms);
      } catch (const carom::timeout_error&) {
        told |= 2;
      }
      try {
        q.join_thread(0s);
      } catch (const carom::timeout_error&) {
        told |= 4;
      }
      queue_board::set(2, static_cast<std::uint32_t>(told) + 100);
      q.join_thread();  // it goes on
      return 0;
    });
    return client.wait();
  });
  ASSERT_TRUE(queue_board::wait(0));
  host.kill(SIGSTOP);
  ASSERT_TRUE(eventually([&] {
    const auto now = carom::test::status_of(host.pid());
    return now && now->state == 'T';
  }));
  queue_board::set(1, 1);
  EXPECT_TRUE(queue_board::wait(2)) << "while the host is stopped";
  EXPECT_EQ(queue_board::get(2), 107u);
  host.kill(SIGCONT);
  EXPECT_EQ(host.wait(), 0);
}

TEST_F(Parity, Queue_of_sixteen_threads_loses_and_doubles_nothing) {
  constexpr int each = 2'000, putters = 8;
  carom::queue<int> q(100);
  std::vector<std::atomic<int>> seen(each * putters);
  std::vector<std::thread> threads;
  for (int i = 0; i < putters; ++i) {
    threads.emplace_back([&q, i] {
      for (int n = 0; n < each; ++n) q.put(i * each + n);
    });
    threads.emplace_back([&] {
      for (int n = 0; n < each; ++n) ++seen[static_cast<std::size_t>(q.get())];
    });
  }
  for (auto& one : threads) one.join();
  EXPECT_TRUE(q.empty());
  for (const auto& count : seen) EXPECT_EQ(count.load(), 1);
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// The row `async_result` of api.md.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <future>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using namespace std::chrono_literals;

constexpr auto patience = 30s;

int fail(const std::string& why) { throw std::runtime_error(why); }

/// A value that comes from another thread.
template <class T>
class awaited {
 public:
  void set(T value) { promise_.set_value(std::move(value)); }
  std::optional<T> get() {
    auto future = promise_.get_future();
    if (future.wait_for(patience) != std::future_status::ready) return std::nullopt;
    return future.get();
  }

 private:
  std::promise<T> promise_;
};

/// A coroutine that runs until it is done; nobody waits for it.
struct detached {
  struct promise_type {
    detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

}  // namespace

TEST_F(Parity, Pool_async_result_get) {
  carom::pool pool{{.processes = 1}};
  const auto result = pool.apply_async([] { return std::string("value"); });
  EXPECT_EQ(result.get(), "value");
  EXPECT_EQ(result.get(), "value") << "get can be called again";
  const auto copy = result;
  EXPECT_EQ(copy.get(), "value");
  const auto nothing = pool.apply_async(tasks::nothing);
  nothing.get();
  nothing.get();
  const auto failed = pool.apply_async(fail, "why");
  EXPECT_THROW(failed.get(), std::runtime_error);
  EXPECT_THROW(failed.get(), std::runtime_error);
}

TEST_F(Parity, Pool_async_result_outlives_its_pool) {
  std::optional<carom::async_result<std::string>> large, small;
  {
    carom::pool pool{{.processes = 1}};
    large = pool.apply_async([] { return std::string(1 << 20, 'x'); });
    small = pool.apply_async([] { return std::string("s"); });
    pool.close();
    pool.join();
  }
  EXPECT_EQ(large->get().size(), 1U << 20);
  EXPECT_EQ(small->get(), "s");
}

TEST_F(Parity, Pool_async_result_get_with_timeout) {
  carom::pool pool{{.processes = 1}};
  const auto result = pool.apply_async(tasks::hold, begun, release);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_THROW(result.get(30ms), carom::timeout_error);
  EXPECT_GE(std::chrono::steady_clock::now() - before, 30ms);
  EXPECT_THROW(result.get(0s), carom::timeout_error);
  EXPECT_THROW(result.get(-1s), carom::timeout_error);
  board::set(release, 1);
  EXPECT_GT(result.get(patience), 0) << "the task went on";
  EXPECT_GT(result.get(std::chrono::hours::max()), 0);
}

TEST_F(Parity, Pool_async_result_wait_ready_successful) {
  carom::pool pool{{.processes = 1}};
  const auto result = pool.apply_async(tasks::hold, begun, release);
  EXPECT_FALSE(result.ready());
  EXPECT_FALSE(result.wait(10ms));
  EXPECT_THROW(result.successful(), carom::error);
  board::set(release, 1);
  EXPECT_TRUE(result.wait(patience));
  result.wait();
  EXPECT_TRUE(result.ready());
  EXPECT_TRUE(result.successful());
  const auto failed = pool.apply_async(fail, "why");
  failed.wait();
  EXPECT_TRUE(failed.ready());
  EXPECT_FALSE(failed.successful());
}

TEST_F(Parity, Pool_async_result_accepted_and_worker_pid) {
  carom::pool pool{{.processes = 1}};
  const auto running = pool.apply_async(tasks::hold, begun, release);
  const auto queued = pool.apply_async(tasks::worker);
  ASSERT_TRUE(board::wait(begun));
  EXPECT_TRUE(running.accepted());
  EXPECT_FALSE(queued.accepted());
  EXPECT_EQ(queued.worker_pid(), 0);
  const pid_t seen = running.worker_pid();
  board::set(release, 1);
  EXPECT_EQ(running.get(), seen);
  EXPECT_EQ(queued.get(), seen);
  EXPECT_TRUE(queued.accepted());
  EXPECT_EQ(queued.worker_pid(), seen);
}

TEST_F(Parity, Pool_async_result_id) {
  carom::pool pool{{.processes = 2}}, other{{.processes = 1}};
  std::set<std::uint64_t> ids;
  for (int i = 0; i < 100; ++i) {
    ids.insert(pool.apply_async(tasks::nothing).id());
    ids.insert(other.apply_async(tasks::nothing).id());
  }
  EXPECT_EQ(ids.size(), 200U);
  EXPECT_FALSE(ids.contains(0));
}

TEST_F(Parity, Pool_async_result_without_a_task) {
  const carom::async_result<int> none;
  EXPECT_FALSE(none.valid());
  EXPECT_THROW(none.get(), std::logic_error);
  EXPECT_THROW(none.ready(), std::logic_error);
  carom::pool pool{{.processes = 1}};
  EXPECT_TRUE(pool.apply_async(tasks::nothing).valid());
}

TEST_F(Parity, Pool_async_result_discard) {
  carom::pool pool{{.processes = 1}};
  auto early = pool.apply_async(tasks::hold, begun, release);
  early.discard();
  board::set(release, 1);
  auto late = pool.apply_async(tasks::square, 3);
  EXPECT_EQ(late.get(), 9);
  EXPECT_THROW(early.get(), carom::error);
  late.discard();
  EXPECT_THROW(late.get(), carom::error);
}

TEST_F(Parity, Pool_async_result_then) {
  carom::pool pool{{.processes = 1}};
  awaited<int> value;
  awaited<std::thread::id> where;
  const auto result = pool.apply_async(tasks::hold, begun, release);
  pool.apply_async(tasks::square, 6).then([&](const carom::async_result<int>& done) {
    EXPECT_TRUE(done.ready());
    where.set(std::this_thread::get_id());
    value.set(done.get());
  });
  board::set(release, 1);
  EXPECT_EQ(value.get(), 36);
  EXPECT_NE(where.get(), std::this_thread::get_id()) << "it runs on the loop thread";
  result.get();
  std::thread::id at_once;
  result.then([&](auto) { at_once = std::this_thread::get_id(); });
  EXPECT_EQ(at_once, std::this_thread::get_id()) << "the task has ended: here and now";
}

TEST_F(Parity, Pool_async_result_then_several_and_move_only) {
  carom::pool pool{{.processes = 1}};
  const auto result = pool.apply_async(tasks::hold, begun, release);
  std::atomic<int> called = 0;
  awaited<int> last;
  for (int i = 0; i < 5; ++i) result.then([&](auto) { ++called; });
  board::set(release, 1);
  result.get();
  const auto second = pool.apply_async(tasks::square, 2);
  second.then([&, held = std::make_unique<int>(7)](auto) { last.set(*held); });
  EXPECT_EQ(last.get(), 7);
  EXPECT_TRUE(carom::test::eventually([&] { return called == 5; })) << called;
}

TEST_F(Parity, Pool_async_result_then_of_a_failed_task) {
  carom::pool pool{{.processes = 1}};
  awaited<std::string> what;
  pool.apply_async(fail, "why").then([&](const carom::async_result<int>& done) {
    try {
      done.get();
    } catch (const std::runtime_error& e) {
      what.set(e.what());
    }
  });
  EXPECT_EQ(what.get(), "why");
}

TEST_F(Parity, Pool_async_result_then_with_an_executor) {
  carom::pool pool{{.processes = 1}};
  std::mutex mutex;
  std::condition_variable more;
  std::function<void()> handed_over;
  const carom::executor executor = [&](std::function<void()> f) {
    std::lock_guard lock(mutex);
    handed_over = std::move(f);
    more.notify_one();
  };
  std::optional<int> value;
  std::thread::id where;
  const auto result = pool.apply_async(tasks::square, 5);
  result.then(
      [&](const carom::async_result<int>& done) {
        value = done.get();
        where = std::this_thread::get_id();
      },
      executor);
  std::unique_lock lock(mutex);
  ASSERT_TRUE(more.wait_for(lock, patience, [&] { return handed_over != nullptr; }));
  EXPECT_FALSE(value);
  handed_over();
  EXPECT_EQ(value, 25);
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST_F(Parity, Pool_async_result_then_that_throws_is_logged_only) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  {
    carom::pool pool{{.processes = 1}};
    const auto result = pool.apply_async(tasks::hold, begun, release);
    result.then([](auto) { throw std::runtime_error("callback"); });
    result.then([](auto) { throw 42; });
    result.then([](auto) {}, [](const std::function<void()>&) { throw 42; });
    board::set(release, 1);
    EXPECT_GT(result.get(), 0);
    result.then([](auto) { throw 42; });  // at once, here
    EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  }
  carom::set_log(nullptr);
}

TEST_F(Parity, Pool_async_result_then_submits_to_the_same_pool) {
  carom::pool pool{{.processes = 1}};
  awaited<int> value;
  pool.apply_async(tasks::square, 2).then([&](const carom::async_result<int>& four) {
    pool.apply_async(tasks::square, four.get()).then([&](const carom::async_result<int>& done) {
      value.set(done.get());
    });
  });
  EXPECT_EQ(value.get(), 16);
}

TEST_F(Parity, Pool_async_result_waiting_on_the_loop_thread_is_an_error) {
  carom::pool pool{{.processes = 1}};
  awaited<bool> refused;
  const auto first = pool.apply_async(tasks::hold, begun, release);
  first.then([&](auto) {
    const auto second = pool.apply_async(tasks::square, 2);
    try {
      second.get();
      refused.set(second.ready());  // only a task that had ended may be read
    } catch (const carom::error&) {
      refused.set(true);
    }
  });
  board::set(release, 1);
  EXPECT_EQ(refused.get(), true);
}

TEST_F(Parity, Pool_async_result_to_future) {
  carom::pool pool{{.processes = 1}};
  std::future<int> value = pool.apply_async(tasks::square, 4).to_future();
  std::future<void> nothing = pool.apply_async(tasks::nothing).to_future();
  std::future<int> failed = pool.apply_async(fail, "why").to_future();
  EXPECT_EQ(value.get(), 16);
  nothing.get();
  EXPECT_THROW(failed.get(), std::runtime_error);
}

TEST_F(Parity, Pool_async_result_co_await) {
  carom::pool pool{{.processes = 1}};
  awaited<int> value;
  awaited<std::string> error;
  const auto run = [](carom::pool& workers, awaited<int>& sum,
                      awaited<std::string>& caught) -> detached {
    const int four = co_await workers.apply_async(tasks::square, 2);
    co_await workers.apply_async(tasks::nothing);
    sum.set(four + co_await workers.apply_async(tasks::square, 3));
    try {
      co_await workers.apply_async(fail, "why");
    } catch (const std::runtime_error& e) {
      caught.set(e.what());
    }
  };
  run(pool, value, error);
  EXPECT_EQ(value.get(), 13);
  EXPECT_EQ(error.get(), "why");
}

TEST_F(Parity, Pool_async_result_read_by_many_threads) {
  carom::pool pool{{.processes = 2}};
  const auto result = pool.apply_async(tasks::hold, begun, release);
  std::atomic<int> same = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 16; ++i)
    threads.emplace_back([&] { same += result.get() == result.worker_pid(); });
  board::set(release, 1);
  threads.clear();
  EXPECT_EQ(same, 16);
}

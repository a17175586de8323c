// SPDX-License-Identifier: BSL-1.0
// Callbacks of options on an executor of the application.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "runtime/loop_thread.hpp"
#include "tests/pool/endless_task.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using carom::test::eventually;
using namespace std::chrono_literals;

/// A thread that runs what it is given, in order.
class own_thread {
 public:
  ~own_thread() {
    post(nullptr);
    thread_.join();
  }
  void post(std::function<void()> what) {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(what));
    changed_.notify_one();
  }
  std::thread::id id() const { return thread_.get_id(); }

 private:
  void run() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !queue_.empty(); });
      const auto next = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      if (!next) return;
      next();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  std::thread thread_{[this] { run(); }};
};

/// What was told, and by which threads.
class told {
 public:
  void note(const std::string& what) {
    std::lock_guard lock(mutex_);
    all_ += what + " ";
    threads_.insert(std::this_thread::get_id());
  }
  std::string all() const {
    std::lock_guard lock(mutex_);
    return all_;
  }
  std::set<std::thread::id> threads() const {
    std::lock_guard lock(mutex_);
    return threads_;
  }

 private:
  mutable std::mutex mutex_;
  std::string all_;
  std::set<std::thread::id> threads_;
};

}  // namespace

TEST_F(Parity, Pool_executor_runs_the_callbacks_of_options_in_their_order) {
  told heard;
  own_thread mine;
  {
    carom::pool pool{{.processes = 1,
                      .on_timeout = [&](const auto&) { heard.note("limit"); },
                      .on_process_up = [&](const auto&) { heard.note("up"); },
                      .on_process_down = [&](const auto&) { heard.note("down"); },
                      .executor = [&](std::function<void()> f) { mine.post(std::move(f)); }}};
    ASSERT_TRUE(eventually([&] { return heard.all() == "up "; }));
    auto task = pool.apply_async({.on_start = [&](pid_t) { heard.note("start"); },
                                  .on_timeout = [&](const auto&) { heard.note("own"); },
                                  .time_limit = 50ms},
                                 tasks::for_ever);
    EXPECT_THROW(task.get(20s), carom::time_limit_exceeded);
    pool.close();
    pool.join(20s);
  }
  ASSERT_TRUE(eventually([&] { return heard.all().ends_with("down "); }));
  EXPECT_TRUE(heard.all().starts_with("up start limit own ")) << heard.all();
  EXPECT_EQ(heard.threads(), std::set{mine.id()});
}

TEST_F(Parity, Pool_executor_that_throws_loses_the_callback_and_nothing_else) {
  carom::pool pool{{.processes = 1, .executor = [](const std::function<void()>&) {
                      throw std::runtime_error("no thread is free");
                    }}};
  EXPECT_EQ(pool.apply({.on_start = [](pid_t) { ADD_FAILURE(); }}, tasks::square, 3), 9);
  EXPECT_EQ(pool.apply(tasks::square, 4), 16);
}

TEST_F(Parity, Pool_executor_may_wait_for_results) {
  own_thread mine;
  carom::pool pool{
      {.processes = 2, .executor = [&](std::function<void()> f) { mine.post(std::move(f)); }}};
  told heard;
  EXPECT_EQ(pool.apply({.on_start =
                            [&](pid_t) {
                              EXPECT_FALSE(carom::runtime::on_loop_thread());
                              heard.note(std::to_string(pool.apply(tasks::square, 5)));
                            }},
                       tasks::square, 3),
            9);
  EXPECT_TRUE(eventually([&] { return heard.all() == "25 "; }));
}

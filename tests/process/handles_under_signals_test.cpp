// SPDX-License-Identifier: BSL-1.0
// A storm of signals interrupts every system call: nobody who waits sees anything of it.
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <future>
#include <thread>

#include "tests/process/every_handle.hpp"

namespace {

using namespace carom::test;
using namespace std::chrono_literals;

/// Signals for the thread that makes it, whose handler does not restart what it interrupts.
class storm {
 public:
  storm() {
    struct sigaction quiet {};
    quiet.sa_handler = +[](int) { ++seen_; };
    ::sigaction(SIGUSR2, &quiet, &before_);
    sender_ = std::thread([this, target = ::pthread_self()] {
      while (!over_) {
        ::pthread_kill(target, SIGUSR2);
        std::this_thread::sleep_for(50us);
      }
    });
  }
  ~storm() {
    over_ = true;
    sender_.join();
    ::sigaction(SIGUSR2, &before_, nullptr);
  }
  static int seen() { return seen_; }

 private:
  static inline std::atomic<int> seen_{0};
  std::atomic<bool> over_{false};
  struct sigaction before_ {};
  std::thread sender_;
};

/// Runs `wait` in a storm; `release` in another thread once enough signals have come.
template <class Wait, class Release>
void under_a_storm(const char* what, Wait wait, Release release) {
  SCOPED_TRACE(what);
  const storm signals;
  const int before = storm::seen();
  std::thread other([&] {
    EXPECT_TRUE(eventually([&] { return storm::seen() >= before + 50; }));
    release();
  });
  EXPECT_NO_THROW(EXPECT_TRUE(wait()));
  other.join();
}

TEST_F(Parity, Process_join_under_a_storm_of_signals) {
  carom::process one(+[] { board::wait(0); });
  one.start();
  under_a_storm(
      "join", [&] { return one.join(60s); }, [] { board::set(0, 1); });
}

TEST_F(Parity, Sync_waits_under_a_storm_of_signals) {
  carom::lock lock;
  std::promise<void> held;
  std::atomic<bool> release{false};
  std::thread owner([&] {
    lock.lock();
    held.set_value();
    eventually([&] { return release.load(); });
    lock.unlock();
  });
  held.get_future().wait();
  under_a_storm(
      "lock", [&] { return bool(lock.acquire()); }, [&] { release = true; });
  owner.join();
  lock.unlock();

  carom::condition condition;
  condition.lock();
  under_a_storm(
      "condition", [&] { return condition.wait(60s); },
      [&] {
        condition.lock();
        condition.notify_all();
        condition.unlock();
      });
  condition.unlock();

  carom::barrier barrier(2);
  under_a_storm(
      "barrier", [&] { return barrier.wait() == 0; }, [&] { barrier.wait(); });
  carom::semaphore semaphore(0);
  under_a_storm(
      "semaphore", [&] { return semaphore.acquire(); }, [&] { semaphore.release(); });
  carom::event event;
  under_a_storm(
      "event", [&] { return event.wait(); }, [&] { event.set(); });
}

TEST_F(Parity, Queue_waits_under_a_storm_of_signals) {
  carom::queue<int> queue(1);
  under_a_storm(
      "queue get", [&] { return queue.get() == 7; }, [&] { queue.put(7); });
  queue.put(1);
  under_a_storm(
      "queue put",
      [&] {
        queue.put(2);
        return queue.get() == 2;
      },
      [&] { (void)queue.get(); });
  carom::joinable_queue<int> joinable;
  joinable.put(1);
  under_a_storm(
      "queue join",
      [&] {
        joinable.join();
        return true;
      },
      [&] { joinable.task_done(); });
  carom::simple_queue<int> simple;
  under_a_storm(
      "simple_queue", [&] { return simple.get() == 7; }, [&] { simple.put(7); });
  auto [a, b] = carom::pipe();
  under_a_storm(
      "connection", [&, &a = a] { return a.recv<int>() == 7; }, [&b = b] { b.send(7); });
}

TEST_F(Parity, Sync_lock_of_sixteen_threads_in_two_processes) {
  constexpr int rounds = 2'000;
  carom::lock lock;
  carom::raw_value<long> sum(0);
  const auto add = +[](carom::lock lock, carom::raw_value<long> sum) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back([&] {
        for (int n = 0; n < rounds; ++n) {
          lock.lock();
          sum.set(sum.get() + 1);
          lock.unlock();
        }
      });
    for (auto& one : threads) one.join();
  };
  carom::process other(add, lock, sum);
  other.start();
  add(lock, sum);
  other.join();
  EXPECT_EQ(other.exitcode(), 0);
  EXPECT_EQ(sum.get(), 16L * rounds);
}

}  // namespace

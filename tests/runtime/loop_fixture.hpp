// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "runtime/loop.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// A loop that a test runs in a thread of its own until the test's condition stops it; the deadline
/// is for loops that never would.
class Loop : public testing::Test {
 protected:
  void run() {
    std::mutex mutex;
    std::condition_variable ended;
    bool over = false;
    std::thread runner([&] {
      loop_.run();
      std::lock_guard lock(mutex);
      over = true;
      ended.notify_one();
    });
    {
      std::unique_lock lock(mutex);
      EXPECT_TRUE(ended.wait_for(lock, std::chrono::seconds(10), [&] { return over; }))
          << "the loop never came to what it was waiting for";
    }
    gave_up_ = true;
    loop_.stop();
    runner.join();
  }
  static unique_fd make_event(unsigned count) {
    return unique_fd(::eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  static std::uint64_t drain(const unique_fd& event) {
    std::uint64_t count = 0;
    return ::read(event.get(), &count, sizeof count) == sizeof count ? count : 0;
  }
  static void raise(const unique_fd& event) {
    const std::uint64_t one = 1;
    ASSERT_EQ(::write(event.get(), &one, sizeof one), ssize_t{sizeof one});
  }

  loop loop_;
  std::atomic<bool> gave_up_{false};
};

}  // namespace carom::runtime

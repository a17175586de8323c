// SPDX-License-Identifier: BSL-1.0
#include "runtime/submit_queue.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace carom::detail {
namespace {

const task_type any_type{nullptr, "int", false};

using pushed = submit_queue::pushed;

/// A node that the queue gets and gives back; number `id`.
task_node* make(std::uint64_t id) {
  auto* node = new task_node(any_type, nullptr);
  node->set_id(id, 0);
  return node;
}

std::vector<std::uint64_t> ids_of(task_node* chain) {
  std::vector<std::uint64_t> ids;
  while (chain) {
    task_node* const next = submit_queue::next(chain);
    ids.push_back(chain->id());
    chain->release();
    chain = next;
  }
  return ids;
}

using ids = std::vector<std::uint64_t>;

TEST(SubmitQueue, GivesEverythingBackOldestFirst) {
  submit_queue queue;
  for (std::uint64_t id = 1; id <= 3; ++id) queue.push(make(id));
  EXPECT_EQ(ids_of(queue.take_all()), (ids{1, 2, 3}));
  EXPECT_EQ(queue.take_all(), nullptr);
}

TEST(SubmitQueue, TheFirstPushAfterArmingRings) {
  submit_queue queue;
  EXPECT_EQ(queue.push(make(1)), pushed::ring) << "it begins armed";
  EXPECT_EQ(queue.push(make(2)), pushed::quiet);
  ids_of(queue.take_all());
  EXPECT_EQ(queue.push(make(3)), pushed::quiet) << "the loop is awake";
  ids_of(queue.take_all());
  EXPECT_TRUE(queue.arm());
  EXPECT_EQ(queue.push(make(4)), pushed::ring);
  ids_of(queue.take_all());
}

TEST(SubmitQueue, WhoArmsWhileSomethingIsThereMustLookHimself) {
  submit_queue queue;
  queue.push(make(1));
  EXPECT_FALSE(queue.arm());
  EXPECT_EQ(queue.push(make(2)), pushed::quiet);
  EXPECT_EQ(ids_of(queue.take_all()), (ids{1, 2}));
}

TEST(SubmitQueue, ClosingGivesTheRestBackAndRefusesWhatComes) {
  submit_queue queue;
  queue.push(make(1));
  EXPECT_FALSE(queue.closed());
  EXPECT_EQ(ids_of(queue.close()), (ids{1}));
  EXPECT_TRUE(queue.closed());
  task_node* const late = make(2);
  EXPECT_EQ(queue.push(late), pushed::closed);
  late->release();
  EXPECT_EQ(queue.take_all(), nullptr);
  EXPECT_EQ(queue.close(), nullptr);
  EXPECT_TRUE(queue.arm()) << "nothing will come: the loop may sleep";
}

/// Many threads push, one takes and sleeps in between, as application and loop do; halfway the
/// queue is closed, or not.
class Crowd {
 public:
  static constexpr std::uint64_t threads = 4, each = 10'000;

  void run(bool close_early) {
    std::vector<std::thread> crowd;
    for (std::uint64_t t = 0; t < threads; ++t) crowd.emplace_back([this, t] { push_all(t); });
    std::uint64_t taken = 0;
    while (taken + refused_ != threads * each) {
      const auto batch = ids_of(queue_.take_all());
      for (const std::uint64_t id : batch) take(id);
      taken += batch.size();
      if (close_early && taken > threads * each / 2 && !queue_.closed())
        for (const std::uint64_t id : ids_of(queue_.close())) take(id), ++taken;
      if (batch.empty() && !queue_.closed() && !sleep()) break;
    }
    for (auto& one : crowd) one.join();
    for (std::uint64_t id = 0; id < seen_.size(); ++id)
      ASSERT_EQ(seen_[id] + refusals_[id], 1) << id;
    EXPECT_TRUE(close_early || refused_ == 0);
  }

 private:
  void push_all(std::uint64_t thread) {
    for (std::uint64_t i = 0; i < each; ++i) {
      const std::uint64_t id = thread * each + i;
      task_node* const node = make(id);
      switch (queue_.push(node)) {
        case pushed::quiet: break;
        case pushed::ring: ring(); break;
        case pushed::closed:
          node->release();
          refusals_[id] = 1;
          ++refused_;
          break;
      }
    }
  }
  void take(std::uint64_t id) {
    ++seen_[id];
    const std::uint64_t thread = id / each;
    EXPECT_GE(id, next_[thread] + thread * each) << "each thread's order is kept";
    next_[thread] = id - thread * each + 1;
  }
  void ring() {
    {
      std::lock_guard lock(mutex_);
      rung_ = true;
    }
    changed_.notify_one();
  }
  /// False if something lies there and nobody has rung.
  bool sleep() {
    if (!queue_.arm()) return true;
    std::unique_lock lock(mutex_);
    const bool rung = changed_.wait_for(lock, std::chrono::seconds(30), [this] { return rung_; });
    EXPECT_TRUE(rung) << "left asleep";
    rung_ = false;
    return rung;
  }

  submit_queue queue_;
  std::vector<int> seen_ = std::vector<int>(threads * each);
  std::vector<int> refusals_ = std::vector<int>(threads * each);
  std::vector<std::uint64_t> next_ = std::vector<std::uint64_t>(threads);
  std::atomic<std::uint64_t> refused_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rung_ = false;
};

TEST(SubmitQueue, ManyThreadsPushAndNothingIsLostDoubledOrLeftLying) { Crowd().run(false); }

TEST(SubmitQueue, ClosedUnderManyThreadsEachNodeIsTakenOrRefused) { Crowd().run(true); }

}  // namespace
}  // namespace carom::detail

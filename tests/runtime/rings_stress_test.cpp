// SPDX-License-Identifier: BSL-1.0
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "runtime/result_ring.hpp"
#include "runtime/task_ring.hpp"

// Host and workers as threads that share a page in ordinary memory: what happens between any two
// instructions. ThreadSanitizer watches.
namespace carom::runtime {
namespace {

#ifdef __SANITIZE_THREAD__
constexpr std::uint64_t scale = 1;
#else
constexpr std::uint64_t scale = 4;
#endif

/// Stands for the channel: remembers that it was rung.
class bell {
 public:
  void ring() {
    {
      std::lock_guard lock(mutex_);
      rung_ = true;
    }
    changed_.notify_one();
  }
  /// False if nobody rings for so long that nobody will.
  bool wait() {
    std::unique_lock lock(mutex_);
    const bool rung = changed_.wait_for(lock, std::chrono::seconds(30), [this] { return rung_; });
    rung_ = false;
    return rung;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rung_ = false;
};

/// A payload that says what it has to be, so that a byte of another's is seen.
std::vector<std::byte> payload_of(std::uint64_t id) {
  std::vector<std::byte> bytes(id * 37 % 5 == 0 ? id * 131 % 6'000 : id * 7 % 200);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(id * 31 + i);
  return bytes;
}

/// A worker as runtime/worker_session.cpp is one.
struct worker {
  std::unique_ptr<worker_page> page = std::make_unique<worker_page>();
  bell rung;
  bell* host = nullptr;
  std::atomic<bool> leave{false};
  std::vector<std::atomic<int>>* runs = nullptr;
  bool left_asleep = false;
  bool garbled = false;

  void main() {
    task_consumer tasks(*page);
    result_producer results(*page);
    for (;;) {
      while (const task_slot* slot = tasks.claim(1)) {
        const std::uint64_t id = slot->task_id;
        const auto expected = payload_of(id);
        const auto payload = tasks.payload(*slot);
        garbled |= !payload || payload->size() != expected.size() ||
                   (!expected.empty() &&
                    std::memcmp(payload->data(), expected.data(), expected.size()) != 0);
        (*runs)[id].fetch_add(1, std::memory_order_relaxed);
        if (id % 50 == 0)
          for (std::uint64_t item = 0; item < 8; ++item)
            if (!publish(results, {.position = tasks.position(),
                                   .kind = result_kind::items,
                                   .first = item,
                                   .count = id,
                                   .payload = expected}))
              return;
        tasks.finish();
        const std::uint64_t position = tasks.position();
        tasks.leave();
        if (!publish(results, {.position = position, .count = id, .payload = expected})) return;
      }
      if (!sleep(worker_wait::tasks, [&] { return !tasks.empty() || leave; })) return;
      if (leave && tasks.empty()) return;
    }
  }

 private:
  bool publish(result_producer& results, const result_frame& frame) {
    while (!results.write(frame)) {
      if (results.publish()) host->ring();
      if (!sleep(worker_wait::results, [&] { return results.room_changed(); })) return false;
    }
    if (results.publish()) host->ring();
    return true;
  }
  template <class Condition>
  bool sleep(worker_wait reason, Condition awake) {
    page->header.worker_waits.store(static_cast<std::uint32_t>(reason));
    left_asleep |= !awake() && !rung.wait();
    page->header.worker_waits.store(0);
    return !left_asleep;
  }
};

/// The host as actors/supervisor.cpp is one, for `count` workers.
class host {
 public:
  host(std::size_t count, std::uint64_t tasks, std::uint64_t seed)
      : runs_(tasks), random_(seed), ended_(tasks), dropped_(tasks) {
    for (std::size_t i = 0; i < count; ++i) {
      auto& one = *workers_.emplace_back(std::make_unique<worker>());
      one.host = &rung_;
      one.runs = &runs_;
      one.page->header.host_armed = 1;
      sides_.push_back(std::make_unique<side>(*one.page));
    }
    for (auto& one : workers_) threads_.emplace_back([&one] { one->main(); });
  }
  ~host() {
    for (auto& one : workers_) {
      one->leave = true;
      one->rung.ring();
    }
    for (auto& one : threads_) one.join();
    for (const auto& one : workers_) {
      EXPECT_FALSE(one->left_asleep) << "a worker slept although there was work or room";
      EXPECT_FALSE(one->garbled) << "a payload was not the task's own";
    }
    for (std::uint64_t id = 0; id < runs_.size(); ++id)
      EXPECT_EQ(runs_[id], dropped_[id] ? 0 : 1) << "task " << id;
  }

  /// Gives all tasks out; now and then takes some back, to give them to another worker, or for good
  /// with `drop`.
  void run(bool drop) {
    while (left_ != runs_.size() || !returned_.empty() || under_way_ != 0) {
      for (auto& one : sides_) give(*one, random_() % 40);
      bool found = false;
      for (std::size_t w = 0; w < sides_.size(); ++w) {
        found |= drain(w);
        if (random_() % 4 == 0) take_back(*sides_[w], random_() % 20, drop);
        if (random_() % 8 == 0) workers_[w]->rung.ring();  // another message
      }
      if (HasFatalFailure() || found || random_() % 3 == 0) continue;
      if (!go_to_sleep()) return;
    }
  }

 private:
  struct side {
    explicit side(worker_page& page) : tasks(page), results(page) {}
    task_producer tasks;
    result_consumer results;
    std::deque<std::pair<std::uint64_t, std::uint64_t>> under_way;  // position, task
    bool armed = true;
  };
  static bool HasFatalFailure() { return testing::Test::HasFatalFailure(); }

  void give(side& to, std::uint64_t count) {
    const auto of = [&](const side& s) { return workers_[index_of(s)].get(); };
    for (; count != 0; --count) {
      const bool again = !returned_.empty();
      if (!again && left_ == runs_.size()) break;
      const std::uint64_t id = again ? returned_.front() : left_;
      const auto payload = payload_of(id);
      to.tasks.refresh();
      const auto at = to.tasks.write({.task_id = id, .payload = payload});
      if (!at) break;
      again ? returned_.pop_front() : void(++left_);
      to.under_way.emplace_back(*at, id);
      ++under_way_;
    }
    if (to.tasks.publish()) of(to)->rung.ring();
  }

  void take_back(side& from, std::uint64_t count, bool drop) {
    for (; count != 0 && !from.under_way.empty(); --count) {
      const auto [position, id] = from.under_way.back();
      if (!from.tasks.revoke(position)) return;
      from.under_way.pop_back();
      --under_way_;
      if (drop)
        dropped_[id] = true;
      else
        returned_.push_back(id);
    }
  }

  bool drain(std::size_t w) {
    side& from = *sides_[w];
    const std::uint64_t available = from.results.available();
    for (std::uint64_t i = 0; i < available; ++i) {
      result_frame frame;
      if (!from.results.peek(i, frame)) ADD_FAILURE() << "a result that cannot be";
      const auto expected = payload_of(frame.count);
      EXPECT_TRUE(frame.payload.size() == expected.size() &&
                  std::equal(expected.begin(), expected.end(), frame.payload.begin()))
          << "a result's bytes are another's";
      if (frame.kind == result_kind::items) continue;
      EXPECT_TRUE(!from.under_way.empty() && from.under_way.front().first == frame.position &&
                  from.under_way.front().second == frame.count)
          << "results come in the order of the tasks";
      EXPECT_FALSE(ended_[frame.count]);
      ended_[frame.count] = true;
      if (!from.under_way.empty()) from.under_way.pop_front();
      --under_way_;
    }
    EXPECT_TRUE(from.tasks.refresh());
    if (available == 0) return false;
    from.results.release(available);
    if (from.tasks.take_waiter(worker_wait::results)) workers_[w]->rung.ring();
    return true;
  }

  bool go_to_sleep() {
    bool quiet = under_way_ != 0;
    for (auto& one : sides_) quiet &= one->results.arm();
    if (!quiet) return true;
    if (rung_.wait()) return true;
    ADD_FAILURE() << "the host slept although workers were at work";
    return false;
  }

  std::size_t index_of(const side& s) const {
    std::size_t i = 0;
    while (sides_[i].get() != &s) ++i;
    return i;
  }

  std::vector<std::atomic<int>> runs_;
  std::mt19937_64 random_;
  std::vector<bool> ended_;
  std::vector<bool> dropped_;
  std::vector<std::unique_ptr<worker>> workers_;
  std::vector<std::unique_ptr<side>> sides_;
  std::vector<std::thread> threads_;
  bell rung_;
  std::deque<std::uint64_t> returned_;
  std::uint64_t left_ = 0;
  std::uint64_t under_way_ = 0;
};

TEST(RingsStress, EachTaskIsRunOrRevokedNeverBoth) {
  host one(1, 40'000 * scale, 1);
  one.run(true);
}

TEST(RingsStress, ATaskThatIsStolenRunsOnceElsewhere) {
  host one(2, 40'000 * scale, 2);
  one.run(false);
}

TEST(RingsStress, AnnouncingTasksTakesNoWaitForRoomAway) {
  const auto page = std::make_unique<worker_page>();
  auto& waits = page->header.worker_waits;
  task_producer tasks(*page);
  std::atomic<bool> through{false};
  std::thread host([&] {
    while (!through) (void)tasks.take_waiter(worker_wait::tasks);
  });
  bool kept = true;
  for (std::uint64_t i = 0; kept && i < 1'000'000 * scale; ++i) {
    waits = static_cast<std::uint32_t>(worker_wait::tasks);
    waits = static_cast<std::uint32_t>(worker_wait::no);
    waits = static_cast<std::uint32_t>(worker_wait::results);
    for (int look = 0; kept && look < 40; ++look)
      kept = waits == static_cast<std::uint32_t>(worker_wait::results);
  }
  through = true;
  host.join();
  EXPECT_TRUE(kept) << "the worker sleeps for room, and nobody will ring it";
}

}  // namespace
}  // namespace carom::runtime

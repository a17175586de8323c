// SPDX-License-Identifier: BSL-1.0
// Everything that is shared passes as argument and result of tasks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <carom/errors.hpp>
#include <carom/pool.hpp>
#include <carom/shared.hpp>
#include <carom/shared_heap.hpp>
#include <carom/simple_queue.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

using namespace std::chrono_literals;
using carom::simple_queue;
namespace board = carom::test::board;

void count_up(carom::value<long> counter, int times) {
  for (int i = 0; i < times; ++i) counter.with([](long& n) { ++n; });
}

TEST_F(Parity, Shared_value_is_an_argument) {
  carom::pool pool{{.processes = 2}};
  carom::value<long> counter(5);
  std::vector<carom::async_result<void>> results;
  for (int i = 0; i < 8; ++i) results.push_back(pool.apply_async(count_up, counter, 500));
  for (auto& each : results) each.get();
  EXPECT_EQ(counter.get(), 4005);
}

carom::value<int> make_value(int initial) { return carom::value<int>(initial); }
carom::value<int> pass_value_on(carom::value<int> v) { return v; }

TEST_F(Parity, Shared_value_is_a_result) {
  carom::pool pool{{.processes = 1}};
  carom::value<int> made = pool.apply(make_value, 3);
  EXPECT_EQ(made.get(), 3);
  carom::value<int> same = pool.apply(pass_value_on, made);
  same.set(4);
  EXPECT_EQ(made.get(), 4);
}

void fill(carom::array<int> elements, carom::raw_array<double> raw,
          std::optional<carom::rlock> lock) {
  if (lock) lock->lock();
  elements.with([](std::span<int> all) { std::iota(all.begin(), all.end(), 0); });
  for (double& each : raw) each = 0.5;
  if (lock) lock->unlock();
}

TEST_F(Parity, Shared_arrays_and_locks_are_arguments) {
  carom::pool pool{{.processes = 1}};
  carom::rlock lock;
  carom::array<int> elements(5);
  auto guarded = carom::synchronized(elements.get_obj(), lock);
  carom::raw_array<double> raw(2);
  pool.apply(fill, guarded, raw, lock);
  EXPECT_THAT(elements, testing::ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(raw, testing::ElementsAre(0.5, 0.5));
}

std::uint64_t sum_of(const carom::shared_buffer& buffer) {
  const auto all = buffer.as<std::uint32_t>();
  return std::accumulate(all.begin(), all.end(), std::uint64_t{0});
}

void square_all(carom::shared_buffer buffer) {
  for (std::uint32_t& each : buffer.as<std::uint32_t>()) each *= each;
}

TEST_F(Parity, Shared_buffer_is_an_argument) {
  carom::pool pool{{.processes = 1}};
  carom::shared_buffer buffer(8 << 20);
  const auto all = buffer.as<std::uint32_t>();
  std::iota(all.begin(), all.end(), 0u);
  EXPECT_EQ(pool.apply(sum_of, buffer), sum_of(buffer));
  pool.apply(square_all, buffer);
  EXPECT_EQ(all[1000], 1'000'000u);
}

std::size_t mappings() { return carom::test::shared_mappings(::getpid()); }

TEST_F(Parity, Shared_buffer_does_not_stay_in_a_worker) {
  carom::pool pool{{.processes = 1}};
  pool.apply(mappings);
  const std::size_t before = pool.apply(mappings);
  const carom::shared_buffer first(std::size_t{1} << 20), second(std::size_t{1} << 20);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pool.apply(sum_of, first), 0u);
    EXPECT_EQ(pool.apply(sum_of, second), 0u);
    EXPECT_EQ(pool.apply(sum_of, second), 0u);
  }
  EXPECT_EQ(pool.apply(mappings), before);
  EXPECT_EQ(pool.apply(sum_of, first), 0u);
  const pid_t worker = pool.workers().at(0).pid;
  EXPECT_TRUE(carom::test::eventually([&] {
    return carom::test::shared_mappings(worker) == before;
  })) << "nor while the worker sleeps";
}

carom::shared_buffer make_buffer(std::size_t size) {
  carom::shared_buffer made(size);
  made.bytes()[size - 1] = std::byte{9};
  return made;
}

TEST_F(Parity, Shared_buffer_is_a_result) {
  carom::pool pool{{.processes = 1}};
  const carom::shared_buffer made = pool.apply(make_buffer, std::size_t{1} << 30);
  ASSERT_EQ(made.size(), std::size_t{1} << 30);
  EXPECT_EQ(made.bytes().back(), std::byte{9});
}

void add_word(carom::shared_heap heap, std::string word) {
  auto* const words = heap.find<carom::heap_vector<carom::heap_string>>("words");
  heap.with([&] { words->emplace_back(word.c_str()); });
}

TEST_F(Parity, Shared_heap_is_an_argument) {
  carom::pool pool{{.processes = 2}};
  carom::shared_heap heap(1 << 20);
  auto& words = heap.make<carom::heap_vector<carom::heap_string>>("words");
  std::vector<carom::async_result<void>> results;
  for (int i = 0; i < 50; ++i)
    results.push_back(pool.apply_async(add_word, heap, "word number " + std::to_string(i)));
  for (auto& each : results) each.get();
  EXPECT_EQ(words.size(), 50u);
}

void produce(simple_queue<int> queue, int from, int count) {
  for (int i = from; i < from + count; ++i) queue.put(i);
}
long consume(simple_queue<int> queue, int count) {
  long total = 0;
  for (int i = 0; i < count; ++i) total += queue.get();
  return total;
}

TEST_F(Parity, Queue_simple_is_an_argument) {
  carom::pool pool{{.processes = 2}};
  simple_queue<int> queue({.capacity = 4096});
  auto producer = pool.apply_async(produce, queue, 0, 20'000);
  auto consumer = pool.apply_async(consume, queue, 10'000);
  const long rest = consume(queue, 10'000);
  producer.get();
  EXPECT_EQ(consumer.get() + rest, 20'000L * 19'999 / 2);
}

std::vector<int> first_of_each(std::vector<simple_queue<int>> queues) {
  std::vector<int> found;
  for (auto& each : queues) found.push_back(each.get());
  return found;
}

TEST_F(Parity, Queue_simple_in_a_container_and_to_an_initializer) {
  static std::optional<simple_queue<int>> inherited;
  simple_queue<int> started;
  carom::pool pool{
      {.processes = 1,
       .initializer = carom::call([](simple_queue<int> queue) { inherited = queue; }, started)}};
  std::vector<simple_queue<int>> queues(3);
  for (int i = 0; i < 3; ++i) queues[static_cast<std::size_t>(i)].put(i);
  EXPECT_THAT(pool.apply(first_of_each, queues), testing::ElementsAre(0, 1, 2));
  pool.apply([] { inherited->put(11); });
  EXPECT_EQ(started.get(30s), 11);
}

simple_queue<int> new_queue() {
  simple_queue<int> made;
  made.put(1);
  return made;
}

TEST_F(Parity, Queue_simple_is_a_result) {
  carom::pool pool{{.processes = 1}};
  EXPECT_EQ(pool.apply(new_queue).get_nowait(), 1);
}

int get_one(simple_queue<int> queue) { return queue.get(); }
void fill_up(simple_queue<std::string> queue) {
  for (;;) queue.put(std::string(900, 'x'));
}
void lock_it(carom::value<int> v) { v.set(1); }

TEST_F(Parity, Queue_simple_and_locks_notice_a_soft_time_limit) {
  carom::pool pool{{.processes = 3}};
  const carom::task_options limited{.soft_time_limit = 50ms};
  simple_queue<int> empty;
  carom::value<int> locked;
  carom::object_lock lock = locked.get_lock();
  const std::scoped_lock held(lock);
  auto getter = pool.apply_async(limited, get_one, empty);
  auto putter = pool.apply_async(limited, fill_up, simple_queue<std::string>({.capacity = 4096}));
  auto locker = pool.apply_async(limited, lock_it, locked);
  EXPECT_THROW(getter.get(30s), carom::soft_time_limit_exceeded);
  EXPECT_THROW(putter.get(30s), carom::soft_time_limit_exceeded);
  EXPECT_THROW(locker.get(30s), carom::soft_time_limit_exceeded);
  EXPECT_EQ(pool.workers().size(), 3u);
}

[[noreturn]] void die_holding(carom::value<int> v) {
  v.get_lock().acquire();
  ::kill(::getpid(), SIGKILL);
  for (;;) {
  }
}

TEST_F(Parity, Shared_value_lock_of_a_worker_that_died) {
  carom::pool pool{{.processes = 1}};
  carom::value<int> v;
  EXPECT_THROW(pool.apply(die_holding, v), carom::worker_lost);
  EXPECT_TRUE(v.get_lock().acquire(30s).abandoned());
  v.get_lock().release();
  pool.apply(lock_it, v);
  EXPECT_EQ(v.get(), 1);
}

}  // namespace

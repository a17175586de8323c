// SPDX-License-Identifier: BSL-1.0
// Queues between processes: pool tasks, forked processes, handles that travel.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <carom/carom.hpp>
#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/queue/queue_support.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using carom::test::forked_process;
namespace board = carom::test::board;

int put_numbers(carom::queue<int> to, int first, int count) {
  for (int i = 0; i < count; ++i) to.put(first + i);
  return ::getpid();
}

std::vector<int> get_numbers(carom::queue<int> from, int count) {
  std::vector<int> got;
  for (int i = 0; i < count; ++i) got.push_back(from.get());
  return got;
}

int get_one(carom::queue<int> from) { return from.get(); }

void drop_all(carom::queue<carom::connection> from, int count) {
  for (int i = 0; i < count; ++i) (void)from.get();
}

void echo(carom::queue<std::string> in, carom::queue<std::string> out) {
  for (;;) {
    std::string text = in.get();
    if (text.empty()) return;
    out.put(text + "!");
  }
}

carom::queue<int> make_queue_here(int first) {
  carom::queue<int> made;
  made.put(first);
  return made;
}

TEST_F(Parity, Queue_between_pool_tasks) {
  carom::pool pool{{.processes = 2}};
  carom::queue<int> q;
  constexpr int count = 20'000;
  auto consumer = pool.apply_async(get_numbers, q, count);
  auto producer = pool.apply_async(put_numbers, q, 0, count);
  const std::vector<int> got = consumer.get();
  EXPECT_NE(producer.get(), ::getpid());
  ASSERT_EQ(got.size(), static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) ASSERT_EQ(got[static_cast<std::size_t>(i)], i);
  EXPECT_TRUE(q.empty());
}

TEST_F(Parity, Queue_there_and_back) {
  carom::pool pool{{.processes = 1}};
  carom::queue<std::string> in, out;
  auto echoing = pool.apply_async(echo, in, out);
  for (int i = 0; i < 200; ++i) {
    in.put(std::to_string(i));
    EXPECT_EQ(out.get(), std::to_string(i) + "!");
  }
  const std::string large(1 << 20, 'l');
  in.put(large);
  EXPECT_TRUE(out.get() == large + "!");
  in.put("");
  echoing.get();
}

TEST_F(Parity, Queue_tasks_of_one_worker_keep_its_order) {
  carom::pool pool{{.processes = 1}};
  carom::queue<int> q;
  std::vector<carom::async_result<int>> tasks;
  for (int i = 0; i < 300; ++i) tasks.push_back(pool.apply_async(put_numbers, q, 10 * i, 10));
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(q.get(), i);
  for (auto& task : tasks) task.get();
}

TEST_F(Parity, Queue_tasks_take_in_order_whoever_they_are) {
  carom::pool pool{{.processes = 3}};
  carom::queue<int> q;
  for (int i = 0; i < 100; ++i) q.put(i);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(pool.apply(get_one, q), i);
}

TEST_F(Parity, Queue_made_in_a_worker_lives_there) {
  carom::pool pool{{.processes = 1}};
  {
    carom::queue<int> there = pool.apply(make_queue_here, 5);
    EXPECT_EQ(there.get(), 5);
    for (int i = 0; i < 1000; ++i) there.put(i);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(there.get(), i);
    EXPECT_EQ(pool.apply(get_one, make_queue_here(9)), 9);
  }
}

TEST_F(Parity, Queue_returned_to_its_host_is_the_same) {
  carom::pool pool{{.processes = 1}};
  carom::queue<int> q;
  const carom::queue<int> back = pool.apply([](carom::queue<int> same) { return same; }, q);
  EXPECT_EQ(back, q);
}

TEST_F(Parity, Queue_of_the_wrong_type_is_an_encoding_error_and_goes_on) {
  carom::queue<std::string> q;
  carom::pool pool{{.processes = 1}};
  q.put("text");
  const auto take_as_number = [](carom::queue<std::string> texts) {
    // As a process that was told the wrong type.
    carom::detail::blob packed;
    carom::detail::encode(packed, texts);
    const carom::detail::descriptor_scope in_reach(packed.find_descriptors());
    auto numbers = std::get<0>(carom::detail::decode<carom::queue<int>>(packed.bytes()));
    return numbers.get();
  };
  EXPECT_THROW((void)pool.apply(take_as_number, q), carom::encoding_error);
  q.put("more");
  EXPECT_EQ(q.get(), "more");
}

TEST_F(Parity, Queue_handle_bytes_that_are_none) {
  carom::queue<int> q;
  carom::detail::blob packed;
  carom::detail::encode(packed, q);
  const auto decode = [&](std::span<const std::byte> bytes) {
    const carom::detail::descriptor_scope in_reach(packed.find_descriptors());
    (void)carom::detail::decode<carom::queue<int>>(bytes);
  };
  for (std::size_t cut = 0; cut < packed.size(); ++cut)
    EXPECT_THROW(decode(packed.bytes().first(cut)), carom::encoding_error);
  std::vector<std::byte> bytes(packed.bytes().begin(), packed.bytes().end());
  bytes[0] = std::byte{9};
  EXPECT_THROW(decode(bytes), carom::encoding_error);
  EXPECT_THROW((void)carom::detail::decode<carom::queue<int>>(packed.bytes()),
               carom::encoding_error)
      << "without its descriptors";
}

// Who waits for the end of a pipe would wait until somebody uses the queue again.
TEST_F(Failures, 04_a_queue_keeps_no_descriptor_of_an_item_that_has_been_taken) {
  carom::queue<carom::connection> ends;
  carom::pool pool{{.processes = 1}};
  std::vector<carom::connection> here;
  for (int i = 0; i < 100; ++i) {
    auto [ours, theirs] = carom::pipe();
    ends.put(std::move(theirs));
    here.push_back(std::move(ours));
  }
  pool.apply(drop_all, ends, 50);
  drop_all(ends, 50);
  for (auto& one : here) EXPECT_TRUE(carom::test::eventually([&] { return one.at_end(); }));
}

TEST_F(Parity, Queue_threads_of_a_forked_process_inherit_it_at_once) {
  carom::queue<int> numbers;
  numbers.put(0);
  ASSERT_EQ(numbers.get(), 0);  // this process has a connection, which the copies cannot use
  constexpr int copies = 20, threads = 8;
  for (int i = 0; i < copies; ++i) {
    forked_process child([&] {
      std::atomic<int> here = 0;
      std::vector<std::thread> all;
      for (int t = 0; t < threads; ++t)
        all.emplace_back([&, t] {
          ++here;
          while (here != threads) std::this_thread::yield();
          numbers.put(t);
        });
      for (auto& one : all) one.join();
      return 0;
    });
    EXPECT_EQ(child.wait(), 0);
  }
  int sum = 0;
  for (int i = 0; i < copies * threads; ++i) sum += numbers.get(30s);
  EXPECT_EQ(sum, copies * threads * (threads - 1) / 2);
}

TEST_F(Parity, Queue_forked_processes_inherit_it) {
  carom::queue<int> to_child, to_parent;
  to_parent.put(0);
  EXPECT_EQ(to_parent.get(), 0) << "it is in use before";
  forked_process child([&] {
    for (int i = 0; i < 500; ++i) to_parent.put(to_child.get() + 1);
    return 0;
  });
  for (int i = 0; i < 500; ++i) {
    to_child.put(i);
    ASSERT_EQ(to_parent.get(), i + 1);
  }
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Parity, Queue_many_producers_and_consumers_in_processes) {
  carom::queue<std::pair<int, int>> q(50);
  carom::queue<std::vector<std::pair<int, int>>> results;
  constexpr int producers = 3, consumers = 3, each = 1500;
  std::vector<forked_process> all;
  for (int c = 0; c < consumers; ++c)
    all.emplace_back([&] {
      std::vector<std::pair<int, int>> got;
      for (auto item = q.get(); item.first >= 0; item = q.get()) got.push_back(item);
      results.put(got);
      return 0;
    });
  std::vector<forked_process> putting;
  for (int p = 0; p < producers; ++p)
    putting.emplace_back([&, p] {
      for (int i = 0; i < each; ++i) q.put({p, i});
      return 0;
    });
  for (auto& one : putting) EXPECT_EQ(one.wait(), 0);
  for (int c = 0; c < consumers; ++c) q.put({-1, 0});
  std::map<std::pair<int, int>, int> counts;
  for (int c = 0; c < consumers; ++c) {
    std::map<int, int> last;
    for (const auto& [p, i] : results.get()) {
      ++counts[{p, i}];
      if (last.contains(p)) {
        EXPECT_LT(last[p], i);
      }
      last[p] = i;
    }
  }
  for (auto& one : all) EXPECT_EQ(one.wait(), 0);
  EXPECT_EQ(counts.size(), static_cast<std::size_t>(producers * each));
  for (const auto& [item, count] : counts) ASSERT_EQ(count, 1);
}

TEST_F(Parity, Queue_maxsize_is_exact_while_room_goes_from_one_process_to_another) {
  constexpr std::int64_t maxsize = 4;
  constexpr int producers = 3, each = 4000;
  carom::queue<int> q(maxsize);
  std::vector<forked_process> putting;
  for (int p = 0; p < producers; ++p)
    putting.emplace_back([&] {
      for (int i = 0; i < each; ++i) q.put(i);
      return 0;
    });
  std::uint64_t most = 0;
  for (int i = 0; i < producers * each; ++i) {
    most = std::max<std::uint64_t>(most, q.qsize());
    (void)q.get(20s);
  }
  EXPECT_LE(most, static_cast<std::uint64_t>(maxsize));
  for (auto& one : putting) EXPECT_EQ(one.wait(), 0);
}

TEST_F(Parity, Queue_what_a_process_put_is_there_when_it_has_ended) {
  carom::queue<int> q;
  forked_process child([&] {
    for (int i = 0; i < 3000; ++i) q.put(i);
    q.close();
    q.join_thread();
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(q.get(), i);
  EXPECT_THROW((void)q.get_nowait(), carom::queue_empty);
}

TEST_F(Parity, Queue_closing_concerns_one_process) {
  carom::queue<int> q;
  forked_process child([&] {
    q.put(1);
    q.close();
    try {
      q.put(2);
    } catch (const carom::process_error&) {
      return 7;
    }
    return 0;
  });
  EXPECT_EQ(child.wait(), 7);
  q.put(3);
  EXPECT_EQ(q.get(), 1);
  EXPECT_EQ(q.get(), 3);
}

TEST_F(Parity, JoinableQueue_workers_in_processes) {
  carom::joinable_queue<int> q;
  std::vector<forked_process> workers;
  for (int w = 0; w < 3; ++w)
    workers.emplace_back([&] {
      for (int item = q.get(); item >= 0; item = q.get()) {
        board::add(0, static_cast<std::uint32_t>(item));
        q.task_done();
      }
      q.task_done();
      return 0;
    });
  for (int i = 1; i <= 100; ++i) q.put(i);
  q.join();
  EXPECT_EQ(board::get(0), 5050u);
  for (std::size_t w = 0; w < workers.size(); ++w) q.put(-1);
  EXPECT_TRUE(q.join(20s));
  for (auto& worker : workers) EXPECT_EQ(worker.wait(), 0);
  EXPECT_THROW(q.task_done(), carom::process_error);
}

TEST_F(Parity, JoinableQueue_as_an_argument) {
  carom::pool pool{{.processes = 2}};
  carom::joinable_queue<int> q;
  const auto work = [](carom::joinable_queue<int> from, carom::queue<int> to) {
    to.put(from.get() * 2);
    from.task_done();
  };
  carom::queue<int> out;
  auto a = pool.apply_async(work, q, out);
  q.put(21);
  q.join();
  EXPECT_EQ(out.get(), 42);
  a.get();
  // One that is not joinable does not pass for one.
  carom::queue<int> plain;
  carom::detail::blob packed;
  carom::detail::encode(packed, plain);
  const carom::detail::descriptor_scope in_reach(packed.find_descriptors());
  EXPECT_THROW((void)carom::detail::decode<carom::joinable_queue<int>>(packed.bytes()),
               carom::encoding_error);
}

TEST_F(Parity, Queue_a_blocked_task_notices_its_soft_limit) {
  carom::pool pool{{.processes = 1}};
  carom::queue<int> empty, full(1);
  full.put(1);
  carom::joinable_queue<int> undone;
  undone.put(1);
  EXPECT_THROW((void)pool.apply(carom::task_options{.soft_time_limit = 50ms}, get_one, empty),
               carom::soft_time_limit_exceeded);
  EXPECT_THROW(
      (void)pool.apply(carom::task_options{.soft_time_limit = 50ms}, put_numbers, full, 1, 1),
      carom::soft_time_limit_exceeded);
  EXPECT_THROW(pool.apply(
                   carom::task_options{.soft_time_limit = 50ms},
                   [](carom::joinable_queue<int> q) { q.join(); }, undone),
               carom::soft_time_limit_exceeded);
  empty.put(3);
  EXPECT_EQ(empty.get(), 3) << "who left takes nothing along";
  EXPECT_EQ(full.qsize(), 1u);
}

TEST_F(Parity, Queue_on_the_loop_thread) {
  carom::pool pool{{.processes = 1}};
  carom::queue<int> q, bounded(1), empty;
  carom::queue<std::string> said;
  for (int i = 0; i < 2; ++i)
    pool.apply_async([](int x) { return x; }, i).then([&](carom::async_result<int> result) {
      const int x = result.get();
      try {
        for (int n = 0; n < 1000; ++n) q.put(x);
        (void)q.get();
        if (x == 0) bounded.put_nowait(1);
        said.put(std::to_string(bounded.qsize()));
        (void)empty.get();
      } catch (const carom::process_error& e) {
        said.put(e.what());
      }
    });
  int errors = 0;
  for (int i = 0; i < 4; ++i) {
    const std::string text = said.get();
    errors += text.find("loop thread") != std::string::npos;
    EXPECT_TRUE(text == "1" || text.find("loop thread") != std::string::npos) << text;
  }
  EXPECT_EQ(errors, 2);
  EXPECT_EQ(q.qsize(), 1998u);
}

}  // namespace

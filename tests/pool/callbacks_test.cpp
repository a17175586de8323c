// SPDX-License-Identifier: BSL-1.0
// Callbacks that use the pool that calls them, from the loop's thread.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <carom/carom.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/endless_task.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using carom::test::helper_program;
using carom::test::running_helper;
using tasks::for_ever;
using namespace std::chrono_literals;

enum class deed { use, close, terminate };

/// What a callback does to its pool, once; the test's thread does not touch it meanwhile.
class meddler {
 public:
  explicit meddler(deed does) : does_(does) {}

  void watch(carom::pool& pool) { pool_.set_value(&pool); }
  void operator()(pid_t worker) {
    if (begun_.exchange(true)) return;
    carom::pool& pool = *pool_.get_future().get();
    if (does_ == deed::use) use(pool, worker);
    if (does_ == deed::close) pool.close();
    if (does_ == deed::terminate) pool.terminate();
    over_.set_value();
  }
  bool is_over() { return over_.get_future().wait_for(60s) == std::future_status::ready; }

 private:
  static void use(carom::pool& pool, pid_t worker) {
    for (int i = 0; i < 8; ++i) {
      pool.grow(1);
      pool.workers();
    }
    pool.apply_async(tasks::square, 2).then([&pool](const auto&) { pool.workers(); });
    pool.metrics();
    pool.did_start_ok();
    try {
      pool.terminate_job(worker);
    } catch (const carom::process_error&) {  // it has gone
    }
    pool.shrink(8, carom::shrinking::drain);
    pool.restart();
    pool.workers();
  }

  const deed does_;
  std::promise<carom::pool*> pool_;
  std::atomic<bool> begun_ = false;
  std::promise<void> over_;
};

/// A pool one of whose callbacks meddles with it, and what makes that callback come.
struct scene {
  std::string callback;
  std::function<void(carom::pool_options&, meddler&)> prepare;
  std::function<void(carom::pool&, meddler&)> provoke;
};

const std::vector<scene>& scenes() {
  static const std::vector<scene> all{
      {"on_start", [](auto&, auto&) {},
       [](carom::pool& pool, meddler& m) {
         for (int i = 0; i < 50; ++i)
           pool.apply_async({.on_start = [&m](pid_t pid) { m(pid); }}, tasks::square, i);
       }},
      {"on_timeout, soft",
       [](carom::pool_options& options, meddler& m) {
         options.on_timeout = [&m](const auto& e) { m(e.pid); };
       },
       [](carom::pool& pool, meddler&) {
         pool.apply_async({.time_limit = 1s, .soft_time_limit = 10ms}, for_ever);
       }},
      {"on_timeout, hard",
       [](carom::pool_options& options, meddler& m) {
         options.on_timeout = [&m](const auto& e) { m(e.pid); };
       },
       [](carom::pool& pool, meddler&) { pool.apply_async({.time_limit = 10ms}, for_ever); }},
      {"on_timeout of a map's item",
       [](carom::pool_options& options, meddler& m) {
         options.on_timeout = [&m](const auto& e) { m(e.pid); };
       },
       [](carom::pool& pool, meddler&) {
         pool.map_async(
             carom::task_options{.time_limit = 10ms}, [](int) { for_ever(); }, std::vector{1, 2, 3},
             3);
       }},
      {"on_process_up",
       [](carom::pool_options& options, meddler& m) {
         options.on_process_up = [&m](const auto& e) { m(e.pid); };
       },
       [](carom::pool&, meddler&) {}},
      {"on_process_down",
       [](carom::pool_options& options, meddler& m) {
         options.on_process_down = [&m](const auto& e) { m(e.pid); };
       },
       [](carom::pool& pool, meddler&) { pool.apply_async(tasks::die_of, SIGKILL); }},
      {"before_kill",
       [](carom::pool_options& options, meddler& m) {
         options.before_kill = [&m](const auto& e) {
           m(e.pid);
           return 0ms;
         };
       },
       [](carom::pool& pool, meddler&) { pool.apply_async({.time_limit = 10ms}, for_ever); }},
      {"then", [](auto&, auto&) {},
       [](carom::pool& pool, meddler& m) {
         const auto result = pool.apply_async(tasks::hold, begun, release);
         result.then([&m](const auto& ended) { m(ended.worker_pid()); });
         board::set(release, 1);
       }}};
  return all;
}

void play(const scene& one, deed does) {
  SCOPED_TRACE(one.callback);
  board::set(release, 0);
  meddler m(does);
  carom::pool_options options{.processes = 2};
  one.prepare(options, m);
  carom::pool pool(options);
  m.watch(pool);
  one.provoke(pool, m);
  ASSERT_TRUE(m.is_over());
  if (does == deed::use)
    EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  else
    pool.join(60s);
}

/// Pools that go while the loop makes their callbacks, alone and beside another one.
const helper_program destroys_in_callbacks("destroys_in_callbacks", [](const auto&) {
  const std::size_t threads = carom::test::threads_of(::getpid());
  for (int round = 0; round < 10; ++round) {
    std::optional<carom::pool> beside;
    if (round % 2 != 0) beside.emplace(carom::pool_options{.processes = 1});
    auto pool = std::make_unique<carom::pool>(carom::pool_options{.processes = 1});
    carom::pool& one = *pool;
    std::promise<void> gone;
    const auto result = one.apply_async(tasks::hold, begun, release);
    result.then([&](const auto&) {
      pool.reset();
      gone.set_value();
    });
    board::set(release, 1);
    if (gone.get_future().wait_for(20s) != std::future_status::ready) return 1;
    board::set(release, 0);
    if (beside && beside->apply(tasks::square, 3) != 9) return 2;
    // The loop goes with the last pool, though it was the loop that has dropped it.
    const auto all_gone = [&] { return carom::test::threads_of(::getpid()) == threads; };
    if (!beside && !eventually(all_gone)) return 4;
    carom::pool next{{.processes = 1}};
    if (next.apply(tasks::square, 4) != 16) return 3;
  }
  return 0;
});

}  // namespace

TEST_F(Parity, Pool_callbacks_may_destroy_their_pool) {
  running_helper helper(destroys_in_callbacks);
  EXPECT_EQ(helper.wait(), 0);
}

TEST_F(Parity, Pool_callbacks_may_use_their_pool) {
  for (const scene& one : scenes()) play(one, deed::use);
}

TEST_F(Parity, Pool_callbacks_may_close_their_pool) {
  for (const scene& one : scenes()) play(one, deed::close);
}

TEST_F(Parity, Pool_callbacks_may_terminate_their_pool) {
  for (const scene& one : scenes()) play(one, deed::terminate);
}

TEST_F(Parity, Pool_on_start_may_grow_the_pool_that_is_being_looked_at) {
  carom::pool pool{{.processes = 1}};
  std::atomic<int> started = 0;
  std::jthread looks([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) pool.workers();
  });
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 1500; ++i)
    results.push_back(pool.apply_async({.on_start =
                                            [&](pid_t) {
                                              if (++started % 100 == 0) pool.grow(1);
                                              pool.workers();
                                            }},
                                       tasks::square, i));
  for (int i = 0; i < 1500; ++i) EXPECT_EQ(results[static_cast<std::size_t>(i)].get(), i * i);
  EXPECT_EQ(started, 1500);
}

TEST_F(Parity, Pool_on_start_that_submits_to_a_full_pool_is_told_what_to_do) {
  carom::pool pool{{.processes = 1, .max_pending = 1, .overflow = carom::overflow::block}};
  std::promise<std::string> told;
  const auto result = pool.apply_async({.on_start =
                                            [&](pid_t) {
                                              try {
                                                pool.apply_async(tasks::nothing);
                                                told.set_value("it was taken");
                                              } catch (const carom::queue_full& e) {
                                                told.set_value(e.what());
                                              }
                                            }},
                                       tasks::hold, begun, release);
  EXPECT_NE(told.get_future().get().find("pool_options::executor"), std::string::npos);
  board::set(release, 1);
  EXPECT_NO_THROW(result.get());
}

TEST_F(Parity, Pool_on_start_is_over_before_the_result_is_there) {
  carom::pool pool{{.processes = 1}};
  std::promise<carom::async_result<int>> known;
  std::promise<bool> ready;
  const auto result = pool.apply_async({.on_start =
                                            [&](pid_t) {
                                              const auto own = known.get_future().get();
                                              // Until the pool has seen how the task has ended.
                                              while (pool.metrics().finished == 0) pool.workers();
                                              ready.set_value(own.ready());
                                            }},
                                       tasks::square, 3);
  known.set_value(result);
  EXPECT_FALSE(ready.get_future().get());
  EXPECT_EQ(result.get(), 9);
}

TEST_F(Parity, Pool_on_timeout_is_over_before_the_error_is_there) {
  std::promise<carom::async_result<void>> known;
  std::promise<bool> ready;
  carom::pool pool{{.processes = 1, .time_limit = 20ms, .on_timeout = [&](const auto&) {
                      ready.set_value(known.get_future().get().ready());
                    }}};
  const auto result = pool.apply_async(for_ever);
  known.set_value(result);
  EXPECT_FALSE(ready.get_future().get());
  EXPECT_THROW(result.get(), carom::time_limit_exceeded);
}

TEST_F(Parity, Pool_on_timeout_may_end_the_task_that_nobody_waits_for) {
  std::promise<bool> ended;
  std::promise<std::string> told;
  carom::pool* itself = nullptr;
  carom::pool pool{{.processes = 1, .on_timeout = [&](const carom::timeout_event& e) {
                      ended.set_value(itself->terminate_job(e.pid, SIGKILL));
                    }}};
  itself = &pool;
  pool.apply_async(
      {.on_timeout = [&](const auto& e) { told.set_value(e.task_name); }, .soft_time_limit = 20ms},
      for_ever);
  EXPECT_TRUE(ended.get_future().get());
  EXPECT_NE(told.get_future().get().find("for_ever"), std::string::npos);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Pool_then_may_have_the_pool_finish_others) {
  carom::pool pool{{.processes = 2}};
  std::atomic<int> called = 0;
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 500; ++i) {
    results.push_back(pool.apply_async(tasks::square, i));
    results.back().then([&](const auto&) {
      pool.workers();
      ++called;
    });
  }
  for (const auto& each : results) each.get();
  EXPECT_TRUE(eventually([&] { return called == 500; }));
}

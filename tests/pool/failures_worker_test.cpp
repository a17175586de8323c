// SPDX-License-Identifier: BSL-1.0
// Rows of failures.md about the death of a worker.
#include <gtest/gtest.h>

#include <algorithm>
#include <carom/carom.hpp>
#include <chrono>
#include <cstdlib>
#include <ranges>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::worker_roster;
using namespace std::chrono_literals;

void exit_with(int code) { std::exit(code); }
void leave_with(int code) { ::_exit(code); }
int peek(std::uintptr_t address) { return *reinterpret_cast<const volatile int*>(address); }

/// Dies while the worker reads it.
struct deadly_argument {
  std::string ahead, behind;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& ahead;
    if (Archive::is_loading::value) std::raise(SIGKILL);
    archive& behind;
  }
};
/// Dies while the worker writes it.
struct deadly_result {
  std::string ahead, behind;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& ahead;
    if (Archive::is_saving::value) std::raise(SIGKILL);
    archive& behind;
  }
};

struct comes_out_broken {
  template <class Archive>
  void serialize(Archive&, unsigned) {
    if (Archive::is_loading::value) throw std::runtime_error("corrupt");
  }
};
struct broken_error : std::runtime_error, comes_out_broken {
  using std::runtime_error::runtime_error;
};
CAROM_EXCEPTION(broken_error);

/// Takes a few milliseconds, so that the items before it are published; then dies.
int die_at_five(int x) {
  carom::test::let_pass(4ms);
  if (x == 5) std::raise(SIGKILL);
  board::add(100 + static_cast<unsigned>(x));
  return x;
}

template <class F, class... As>
carom::worker_lost_info how_it_was_lost(carom::pool& pool, F f, As... as) {
  try {
    pool.apply(f, as...);
  } catch (const carom::worker_lost& e) {
    return e.info();
  }
  ADD_FAILURE() << "no worker_lost";
  return {};
}

}  // namespace

TEST_F(Failures, 01_worker_killed_at_any_instant_and_the_next_task_completes) {
  worker_roster roster;
  carom::pool pool(roster.watch({.processes = 2}));
  ASSERT_TRUE(roster.wait_for_alive(2));
  std::vector<carom::async_result<int>> flood;
  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < 200; ++i) flood.push_back(pool.apply_async(tasks::square, i));
    carom::test::let_pass(std::chrono::microseconds(37 * (round % 17)));
    roster.kill_one();
    for (bool completed = false; !completed;) {
      try {
        completed = pool.apply(tasks::square, round) == round * round;
      } catch (const carom::worker_lost&) {  // it was this one
      }
    }
  }
  for (const auto& each : flood) EXPECT_TRUE(each.wait(30s));
}

TEST_F(Failures, 02_worker_killed_while_it_writes_a_result) {
  carom::pool pool{{.processes = 1}};
  for (const std::size_t size : {10, 1000, 100'000, 3'000'000}) {
    EXPECT_THROW(pool.apply(
                     [](std::size_t n) {
                       return deadly_result{std::string(n, 'x'), "y"};
                     },
                     size),
                 carom::worker_lost);
    EXPECT_EQ(pool.apply(tasks::square, 2), 4);
  }
}

TEST_F(Failures, 03_worker_killed_while_it_reads_a_large_argument) {
  carom::pool pool{{.processes = 1}};
  for (const std::size_t size : {10, 100'000, 8 << 20}) {
    const std::string half(size / 2, 'x');
    const auto lost = pool.apply_async([](const deadly_argument&) {}, deadly_argument{half, half});
    const auto large = pool.apply_async([](const std::string& s) { return s.size(); }, half);
    ASSERT_TRUE(lost.wait(30s));
    EXPECT_THROW(lost.get(), carom::worker_lost);
    EXPECT_EQ(large.get(30s), half.size());
  }
}

TEST_F(Failures, 03_worker_stopped_and_killed_while_large_arguments_wait_for_it) {
  carom::pool pool{{.processes = 1}};
  const pid_t worker = pool.apply(tasks::worker);
  ::kill(worker, SIGSTOP);
  const std::string large(8 << 20, 'x');
  std::vector<carom::async_result<std::size_t>> results;
  for (int i = 0; i < 4; ++i)  // submitting does not block, whatever the worker does
    results.push_back(pool.apply_async([](const std::string& s) { return s.size(); }, large));
  ::kill(worker, SIGKILL);
  for (const auto& each : results) EXPECT_EQ(each.get(30s), large.size());
}

TEST_F(Failures, 04_death_is_seen_though_a_grandchild_holds_all_descriptors) {
  carom::pool pool{{.processes = 2}};
  pool.apply(tasks::square, 1);
  std::vector<std::chrono::nanoseconds> delays;
  for (int i = 0; i < 9; ++i) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THROW(pool.apply([] {
      if (::fork() == 0) {
        ::setsid();
        for (;;) ::pause();
      }
      ::_exit(1);
    }),
                 carom::worker_lost);
    delays.push_back(std::chrono::steady_clock::now() - start);
  }
  std::ranges::sort(delays);
  EXPECT_LE(delays[delays.size() / 2], 100ms * carom::test::slowness);
}

TEST_F(Failures, 05_results_before_a_death_are_delivered) {
  carom::pool pool{{.processes = 1}};
  for (int round = 0; round < 50; ++round) {
    std::vector<carom::async_result<int>> before;
    for (int i = 0; i < 30; ++i) before.push_back(pool.apply_async(tasks::square, i));
    const auto large = pool.apply_async([] { return std::string(200'000, 'r'); });
    const auto lost = pool.apply_async(tasks::die_of, SIGKILL);
    const auto after = pool.apply_async(tasks::square, 9);
    EXPECT_THROW(lost.get(), carom::worker_lost);
    for (int i = 0; i < 30; ++i)
      EXPECT_EQ(before[static_cast<std::size_t>(i)].get(), i * i) << "published before the death";
    EXPECT_EQ(large.get().size(), 200'000U);
    EXPECT_EQ(after.get(), 81) << "not begun: runs in the next worker";
  }
}

TEST_F(Failures, 05_loss_is_reported_within_milliseconds) {
  carom::pool pool{{.processes = 2}};
  pool.apply(tasks::square, 1);
  std::vector<std::chrono::nanoseconds> delays;
  for (unsigned i = 0; i < 100; ++i) {
    const auto held = pool.apply_async(tasks::hold, begun, release);
    ASSERT_TRUE(board::wait(begun, i + 1));
    const pid_t worker = held.worker_pid();
    const auto start = std::chrono::steady_clock::now();
    ASSERT_EQ(::kill(worker, SIGKILL), 0);
    EXPECT_THROW(held.get(), carom::worker_lost);
    delays.push_back(std::chrono::steady_clock::now() - start);
  }
  std::ranges::sort(delays);
  // The p99 of the contract holds on a machine of one's own; here others build at the same time.
  const std::size_t rank = std::getenv("CAROM_FULL") ? 98 : 80;
  EXPECT_LE(delays[rank], 20ms * carom::test::slowness);
}

TEST_F(Failures, 09_imap_item_of_a_lost_worker_yields_its_error) {
  carom::pool pool{{.processes = 2}};
  for (const std::size_t chunk : {1, 3}) {
    auto results = pool.imap(die_at_five, std::views::iota(0, 12), chunk);
    for (int i = 0; i < 12; ++i) {
      if (i == 5)
        EXPECT_THROW(results.next(30s), carom::worker_lost);
      else
        EXPECT_EQ(results.next(30s), i);
    }
    EXPECT_EQ(results.next(30s), std::nullopt);
  }
}

TEST_F(Failures, 09_map_with_a_lost_worker) {
  carom::pool pool{{.processes = 1}};
  const auto outcomes = pool.try_map(die_at_five, std::views::iota(0, 12), 12);
  ASSERT_EQ(outcomes.size(), 12U);
  for (unsigned i = 0; i < 12; ++i) {
    if (i == 5) {
      EXPECT_THROW(outcomes[i].value(), carom::worker_lost);
      continue;
    }
    EXPECT_EQ(outcomes[i].value(), static_cast<int>(i));
    EXPECT_EQ(board::get(100 + i), 1U) << "item " << i << " ran once";
  }
  EXPECT_THROW(pool.map(die_at_five, std::views::iota(0, 12), 12), carom::worker_lost);
}

TEST_F(Failures, 20_one_death_fails_one_task) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 1000; ++i)
    results.push_back(i == 500 ? pool.apply_async(tasks::die_of, SIGKILL)
                               : pool.apply_async(tasks::square, i));
  for (int i = 0; i < 1000; ++i) {
    if (i == 500)
      EXPECT_THROW(results[500].get(), carom::worker_lost);
    else
      EXPECT_EQ(results[static_cast<std::size_t>(i)].get(), i * i);
  }
}

TEST_F(Failures, 23_a_death_by_signal_is_explained) {
  carom::register_task("tests.die", tasks::die_of);
  carom::pool pool{{.processes = 1}};
  for (const int signal : {SIGKILL, SIGSEGV, SIGABRT, SIGBUS, SIGTERM, SIGUSR2}) {
    const pid_t worker = pool.apply(tasks::worker);
    const auto lost = how_it_was_lost(pool, tasks::die_of, signal);
    EXPECT_EQ(lost.signal, signal);
    EXPECT_EQ(lost.pid, worker);
    EXPECT_NE(lost.task_name.find("tests.die"), std::string::npos) << lost.task_name;
    EXPECT_NE(lost.task_id, 0U);
    EXPECT_EQ(lost.attempts, 1U);
  }
  EXPECT_EQ(how_it_was_lost(pool, peek, 8).signal, SIGSEGV);
  EXPECT_EQ(how_it_was_lost(pool, [] { std::abort(); }).signal, SIGABRT);
  EXPECT_EQ(how_it_was_lost(pool, []() noexcept { std::vector<int>().at(1); }).signal, SIGABRT);
}

TEST_F(Failures, 23_the_text_of_a_death_names_it) {
  carom::register_task("tests.die", tasks::die_of);
  carom::pool pool{{.processes = 1}};
  try {
    pool.apply(tasks::die_of, SIGSEGV);
    FAIL() << "nothing thrown";
  } catch (const carom::worker_lost& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("SIGSEGV"), std::string::npos) << text;
    EXPECT_NE(text.find("tests.die"), std::string::npos) << text;
    EXPECT_NE(text.find(std::to_string(e.pid())), std::string::npos) << text;
  }
}

TEST_F(Failures, 23_a_death_tells_how_long_the_task_ran) {
  carom::pool pool{{.processes = 1}};
  const auto waited = pool.apply_async(tasks::hold, begun, release);
  const auto held = pool.apply_async(tasks::hold, begun, release + 1);
  carom::test::let_pass(60ms);
  board::set(release, 1);
  ASSERT_TRUE(board::wait(begun, 2));
  carom::test::let_pass(20ms);
  ::kill(waited.get(), SIGKILL);
  try {
    held.get(30s);
    FAIL() << "nothing thrown";
  } catch (const carom::worker_lost& e) {
    EXPECT_GE(e.run_time(), 20ms) << "from its start to its death";
    EXPECT_EQ(e.task_id(), held.id());
  }
}

TEST_F(Failures, 23_an_exit_in_a_task_is_explained) {
  carom::pool pool{{.processes = 1}};
  for (const int code : {0, 3}) {
    const auto exited = how_it_was_lost(pool, exit_with, code);
    EXPECT_EQ(exited.signal, 0);
    EXPECT_EQ(exited.exit_code, code);
    EXPECT_NE(exited.cause.find("exit"), std::string::npos) << exited.cause;
    const auto left = how_it_was_lost(pool, leave_with, code);
    EXPECT_EQ(left.signal, 0);
    EXPECT_EQ(left.exit_code, code);
  }
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Failures, 25_an_undecodable_result_or_error_fails_its_task_only) {
  carom::pool pool{{.processes = 1}};
  const pid_t worker = pool.apply(tasks::worker);
  const auto result = pool.apply_async([] { return comes_out_broken(); });
  const auto error = pool.apply_async([] { throw broken_error("text"); });
  EXPECT_THROW(result.get(30s), carom::encoding_error);
  EXPECT_THROW(error.get(30s), carom::error) << "whatever of it could be saved";
  EXPECT_EQ(pool.apply(tasks::worker), worker);
}

TEST_F(Failures, 40_a_crash_in_a_task_leaves_the_host_alive) {
  carom::pool pool{{.processes = 2}};
  for (int i = 0; i < 10; ++i) {
    EXPECT_THROW(pool.apply(peek, 8), carom::worker_lost);
    EXPECT_EQ(pool.apply(tasks::square, i), i * i);
  }
}

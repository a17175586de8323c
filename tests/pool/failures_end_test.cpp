// SPDX-License-Identifier: BSL-1.0
// Rows of failures.md about ends that come at the moment of another end.
#include <gtest/gtest.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "actors/pool_handle.hpp"
#include "actors/supervisor.hpp"
#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/pool/worker_roster.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/helper_program.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using carom::test::eventually;
using carom::test::helper_program;
using carom::test::running_helper;
using carom::test::worker_roster;
using namespace std::chrono_literals;

constexpr unsigned others = 2;

/// While it lives nobody tells how a worker has ended, nor starts another.
class mute_servers {
 public:
  mute_servers() { signal(SIGSTOP); }
  ~mute_servers() { signal(SIGCONT); }

 private:
  void signal(int number) {
    for (const pid_t pid : {servers_.keeper, servers_.forker})
      EXPECT_TRUE(carom::test::signal_family(::getpid(), pid, number));
  }
  const carom::test::server_pids servers_ = carom::test::fork_servers_of(::getpid());
};

/// The first item is held; others count.
int hold_the_first(int item) {
  if (item == 0)
    tasks::hold(begun, release);
  else
    board::add(others);
  return item;
}

/// The first item takes too much and dies when it is told to; others count.
int leak_in_the_first(int item) {
  if (item != 0) return static_cast<int>(board::add(others));
  static std::string kept;
  kept.assign(128 * mib, 'x');
  board::wait(release);
  std::raise(SIGKILL);
  return item;
}

/// Cannot write, and what is to be told of that throws.
std::shared_ptr<spdlog::logger> throwing_log() {
  struct sink final : spdlog::sinks::base_sink<std::mutex> {
    void sink_it_(const spdlog::details::log_msg&) override {
      throw std::runtime_error("the disk is full");
    }
    void flush_() override {}
  };
  auto log = std::make_shared<spdlog::logger>("full", std::make_shared<sink>());
  log->set_level(spdlog::level::trace);
  log->set_error_handler([](const std::string& why) { throw std::runtime_error(why); });
  return log;
}

const helper_program host_whose_log_throws(
    "host_whose_log_throws", [](const helper_program::arguments&) {
      carom::set_log(throwing_log());
      carom::pool pool{
          {.processes = 2, .max_tasks_per_child = 10, .on_timeout = [](const auto&) { throw 1; }}};
      for (int round = 0; round < 5; ++round) {
        try {
          pool.apply(tasks::die_of, SIGKILL);
          return 1;
        } catch (const carom::worker_lost&) {
        }
        try {
          pool.apply(carom::task_options{.time_limit = 10ms}, tasks::hold, begun, release);
          return 2;
        } catch (const carom::time_limit_exceeded&) {
        }
        if (pool.apply(tasks::square, round) != round * round) return 3;
      }
      pool.close();
      pool.join();
      return 0;
    });

/// The only pool there is.
std::shared_ptr<carom::detail::pool_handle> handle_of_the_pool() {
  for (std::uint32_t id = 1; id < 1'000'000; ++id)
    if (auto found = carom::detail::pool_handle::find(id)) return found;
  return nullptr;
}

}  // namespace

TEST_F(Failures, 10_a_log_that_throws_ends_neither_host_nor_pool) {
  running_helper helper(host_whose_log_throws);
  EXPECT_EQ(helper.wait(), 0);
}

TEST_F(Failures, 26_a_task_whose_worker_has_just_died_is_stopped) {
  carom::pool pool{{.processes = 1, .retry = {.attempts = 3}}};
  const auto result = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  {
    const mute_servers muted;
    ASSERT_EQ(::kill(result.worker_pid(), SIGKILL), 0);
    ASSERT_TRUE(eventually([&] { return pool.metrics().died_workers == 1; }));
    EXPECT_TRUE(result.terminate());
    EXPECT_TRUE(result.ready());
    EXPECT_FALSE(result.terminate()) << "it has ended";
  }
  EXPECT_THROW(result.get(), carom::terminated);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(board::get(begun), 1u) << "it was not tried again";
}

TEST_F(Failures, 26_a_map_whose_worker_has_just_died_is_stopped) {
  carom::pool pool{{.processes = 1, .retry = {.attempts = 3}}};
  const auto map = pool.map_async(hold_the_first, std::vector{0, 1, 2}, 3);
  ASSERT_TRUE(board::wait(begun));
  {
    const mute_servers muted;
    ASSERT_EQ(::kill(pool.workers().at(0).pid, SIGKILL), 0);
    ASSERT_TRUE(eventually([&] { return pool.metrics().died_workers == 1; }));
    EXPECT_TRUE(map.terminate());
  }
  EXPECT_THROW(map.get(), carom::terminated);
  pool.close();
  pool.join();
  EXPECT_EQ(board::get(begun), 1u);
  EXPECT_EQ(board::get(others), 0u) << "what stood behind the item does not run elsewhere";
}

TEST_F(Failures, 26_a_chunk_that_is_being_stopped_for_its_memory_can_be_stopped_whole) {
  std::promise<pid_t> told;
  carom::pool pool{{.processes = 1, .memory_limit = 64 * mib, .before_kill = [&](const auto& e) {
                      told.set_value(e.pid);
                      return 1h;
                    }}};
  auto outcomes = std::async(std::launch::async, [&] {
    return pool.try_map(leak_in_the_first, std::vector{0, 1, 2}, 3);
  });
  const pid_t worker = told.get_future().get();
  EXPECT_TRUE(pool.terminate_job(worker));
  EXPECT_FALSE(pool.terminate_job(worker)) << "it was stopped before";
  board::set(release, 1);
  const auto all = outcomes.get();
  EXPECT_THROW(all[0].value(), carom::memory_limit_exceeded);
  EXPECT_THROW(all[1].value(), carom::terminated);
  EXPECT_THROW(all[2].value(), carom::terminated);
  EXPECT_EQ(board::get(others), 0u);
}

TEST_F(Failures, 17_starts_that_the_fork_server_is_late_with_do_not_pile_up) {
  constexpr std::uint64_t processes = 2;
  worker_roster roster;
  constexpr auto patience = carom::test::slowness * 500ms;
  carom::pool pool(roster.watch({.processes = processes, .start_timeout = patience}));
  ASSERT_TRUE(roster.wait_for_alive(processes));
  const std::uint64_t before = pool.metrics().started_workers;
  {
    const mute_servers none;
    for (const pid_t worker : roster.alive()) ::kill(worker, SIGKILL);
    // Those who replace the dead are late, and those who replace them.
    ASSERT_TRUE(
        eventually([&] { return pool.metrics().started_workers == before + 2 * processes; }));
    carom::test::let_pass(3 * patience);
    EXPECT_EQ(pool.metrics().started_workers, before + 2 * processes);
  }
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Failures, 35_a_task_that_slips_into_a_pool_that_ends_is_settled) {
  carom::pool pool{{.processes = 1, .restarts = {.backoff = {.initial = 100ms}}}};
  const auto lost = pool.apply_async(tasks::hold, begun, release);
  ASSERT_TRUE(board::wait(begun));
  // Closed, as a thread sees it that has looked just before whether it may submit.
  caf::anon_send(handle_of_the_pool()->supervisor(), carom::actors::close_atom::value);
  std::promise<std::optional<carom::async_result<int>>> slipped_in;
  lost.then([&](const auto&) {
    try {
      auto late = pool.apply_async(tasks::square, 3);
      pool.metrics();  // takes it in
      slipped_in.set_value(late);
    } catch (const carom::pool_closed&) {
      slipped_in.set_value(std::nullopt);
    }
  });
  ASSERT_EQ(::kill(lost.worker_pid(), SIGKILL), 0);
  const auto late = slipped_in.get_future().get();
  if (late) {
    ASSERT_TRUE(late->wait(20s));
    EXPECT_EQ(late->get(), 9) << "it was taken in before the last worker's end was told";
  }
  pool.close();
  pool.join();
}

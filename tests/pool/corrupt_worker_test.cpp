// SPDX-License-Identifier: BSL-1.0
// Workers that say what is not so, in the words of those that do not.
#include <gtest/gtest.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/worker_identity.hpp"
#include "runtime/worker_page.hpp"
#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
namespace runtime = carom::runtime;
using carom::test::eventually;
using carom::test::slowness;
using namespace std::chrono_literals;

/// Publishes a result behind the worker's back, and rings no bell.
void publish(runtime::worker_page& page, runtime::result_slot said) {
  const auto tail = page.header.result_tail.load();
  page.results[tail % runtime::ring_slots] = said;
  page.header.result_tail.store(tail + 1);
}

/// The last item of its chunk says that the chunk is done, and hangs.
int call_the_chunk_done(int x) {
  if (x != 2) return x;
  auto& page = *runtime::identity().page;
  const auto& run = page.open;
  if (run.count.load() != 2)
    throw std::domain_error("on a slow machine they are published already");
  const std::size_t one = run.length / 2;
  const std::size_t size = 3 * one, at = runtime::ring_bytes - size;
  std::byte* const bytes = page.result_bytes.data() + at;
  std::memcpy(bytes, run.bytes.data(), 2 * one);
  std::memcpy(bytes + 2 * one, run.bytes.data() + one, one);
  publish(page, {.position = run.position,
                 .payload = at,
                 .length = size,
                 .kind = static_cast<std::uint32_t>(runtime::result_kind::chunk_done),
                 .flags = 0,
                 .first = run.first,
                 .count = 3});
  for (;;) ::pause();
}

/// The first item breaks its ring and is published, with a bell.
std::string break_the_ring(int x) {
  board::add(begun);
  if (x == 0) {
    board::wait(release);
    runtime::identity().page->header.task_head.store(1'000'000);
    return std::string(50'000, 'x');
  }
  for (;;) ::pause();
}

/// The first time it publishes a result for what stood at its place in the ring before.
std::string answer_for_another(const std::string& text) {
  if (board::add(begun) != 0) return text;
  auto& page = *runtime::identity().page;
  const std::uint64_t position = page.header.task_head;
  const std::size_t size = 8, at = runtime::ring_bytes - size;
  std::memset(page.result_bytes.data() + at, 0, size);
  publish(page, {.position = position - runtime::ring_slots,
                 .payload = at,
                 .length = size,
                 .kind = static_cast<std::uint32_t>(runtime::result_kind::value),
                 .flags = 0,
                 .first = 0,
                 .count = 0});
  for (;;) ::pause();
}

/// One item notices nothing of its limit, ends after it, and has so much to say that its worker
/// would publish it.
std::string end_after_the_limit(int x) {
  if (x != 40) return "";
  std::signal(SIGTERM, SIG_IGN);
  board::set(begun, static_cast<std::uint32_t>(::getpid()));
  const auto& cursor = runtime::identity().page->header.cursor;
  while (cursor != runtime::cursor_taken) {
  }
  return std::string(20'000, 'x');
}

/// Whether this process sleeps, or nearly so.
bool is_quiet() {
  const auto used = [] {
    timespec now{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  };
  const auto before = used();
  carom::test::let_pass(400ms);
  return used() - before < 100ms;
}

/// Counts what is said of workers that break the rules.
class accusations final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  int count() {
    std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    count_ += text.find("result that cannot be") != text.npos;
  }
  void flush_() override {}
  int count_ = 0;
};

}  // namespace

TEST_F(Failures, 25_chunk_that_its_worker_has_called_done_ends_once) {
  carom::pool pool{{.processes = 2,
                    .start_method = carom::start_method::forkserver,
                    // for the one that hangs when it is through
                    .claim_deadline = 500ms * slowness}};
  const std::vector<int> items{0, 1, 2};
  for (int round = 0, attempts = 0; round < 2;) {
    auto results = pool.map_async(carom::task_options{.time_limit = 100ms * slowness},
                                  call_the_chunk_done, items, items.size());
    try {
      EXPECT_EQ(results.get(20s), (std::vector<int>{0, 1, 1})) << "it was believed";
      ++round;
    } catch (const std::domain_error&) {
      ASSERT_LT(++attempts, 1000);
    }
    EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  }
}

TEST_F(Failures, 25_a_corrupt_worker_that_is_about_to_be_killed_keeps_no_loop_busy) {
  carom::pool pool{{.processes = 1,
                    .start_method = carom::start_method::forkserver,
                    .before_kill = [](const auto&) { return 1h; }}};
  const pid_t worker = pool.apply(tasks::worker);
  const auto map = pool.map_async(break_the_ring, std::vector{0, 1}, 2);
  ASSERT_TRUE(board::wait(begun));
  EXPECT_TRUE(pool.terminate_job(worker));
  board::set(release, 1);
  ASSERT_TRUE(board::wait(begun, 2));
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_TRUE(eventually(is_quiet));
}

TEST_F(Failures, 25_a_result_for_another_round_of_the_ring_leaves_the_task_as_it_is) {
  carom::pool pool{
      {.processes = 1, .start_method = carom::start_method::forkserver, .retry = {.attempts = 2}}};
  for (std::uint32_t i = 0; i < 2 * runtime::ring_slots; ++i) pool.apply(tasks::nothing);
  const auto result = pool.apply_async(answer_for_another, std::string("as it was given"));
  ASSERT_TRUE(board::wait(begun));
  EXPECT_TRUE(eventually([&] {
    pool.workers();  // looks at what was published without a bell
    return result.ready();
  }));
  EXPECT_EQ(result.get(), "as it was given");
}

TEST_F(Failures, 25_an_item_that_ends_after_its_limit_is_not_heard_of) {
  const auto heard = std::make_shared<accusations>();
  carom::set_log(std::make_shared<spdlog::logger>("captured", heard));
  {
    carom::pool pool{{.processes = 1,
                      .start_method = carom::start_method::forkserver,
                      .time_limit = 200ms,
                      .kill_grace = 300ms}};
    std::vector<int> items;
    for (int i = 0; i < 100; ++i) items.push_back(i);
    const auto all = pool.try_map(end_after_the_limit, items, items.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i == 40)
        EXPECT_THROW(all[i].value(), carom::time_limit_exceeded);
      else
        EXPECT_EQ(all[i].value(), "");
    }
    const auto worker = static_cast<pid_t>(board::get(begun));
    EXPECT_TRUE(eventually([&] { return !carom::test::status_of(worker); }));
  }
  carom::set_log(nullptr);
  EXPECT_EQ(heard->count(), 0);
}

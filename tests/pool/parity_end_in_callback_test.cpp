// SPDX-License-Identifier: BSL-1.0
// Pools that end on the loop's thread, where nothing may be waited for.
#include <gtest/gtest.h>

#include <carom/carom.hpp>
#include <chrono>
#include <future>
#include <memory>
#include <optional>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;

void expect_that_pools_work() {
  carom::pool pool{{.processes = 1}};
  EXPECT_EQ(pool.apply_async(tasks::square, 3).get(20s), 9);
}

}  // namespace

TEST_F(Parity, Pool_destroyed_in_a_callback_ends_behind_it) {
  for (int round = 0; round < 10; ++round) {
    std::optional<carom::pool> pool(std::in_place, carom::pool_options{.processes = 2});
    std::promise<void> gone;
    auto held = pool->apply_async(tasks::hold, begun, release);
    pool->apply_async(tasks::square, 2).then([&](const auto&) {
      pool.reset();
      gone.set_value();
    });
    ASSERT_EQ(gone.get_future().wait_for(20s), std::future_status::ready);
    EXPECT_THROW(held.get(20s), carom::terminated);
    expect_that_pools_work();
  }
}

TEST_F(Parity, Pool_that_its_last_continuation_owns_ends_with_it) {
  for (int round = 0; round < 10; ++round) {
    auto pool = std::make_shared<carom::pool>(carom::pool_options{.processes = 2});
    std::promise<int> answer;
    auto& called = *pool;
    called.apply_async(tasks::square, 2).then([owner = std::move(pool), &answer](const auto& done) {
      answer.set_value(done.get());
    });
    auto future = answer.get_future();
    ASSERT_EQ(future.wait_for(20s), std::future_status::ready);
    EXPECT_EQ(future.get(), 4);
    expect_that_pools_work();
  }
}

TEST_F(Parity, Pool_made_and_destroyed_in_a_callback) {
  std::promise<void> done;
  carom::pool outer{{.processes = 1}};
  outer.apply_async(tasks::square, 2).then([&](const auto&) {
    carom::pool inner{{.processes = 1}};
    inner.apply_async(tasks::square, 3);
    done.set_value();
  });
  ASSERT_EQ(done.get_future().wait_for(20s), std::future_status::ready);
  EXPECT_EQ(outer.apply_async(tasks::square, 4).get(20s), 16);
}

// SPDX-License-Identifier: BSL-1.0
// Pollers: what the loop asks before it sleeps.
#include <gtest/gtest.h>

#include <functional>

#include "runtime/loop.hpp"
#include "runtime/unique_fd.hpp"
#include "tests/runtime/loop_fixture.hpp"

namespace carom::runtime {
namespace {

struct poller : loop::poller {
  std::function<bool()> on_poll = [] { return false; };
  std::function<bool()> on_sleep = [] { return true; };
  bool poll() override { return on_poll(); }
  bool before_sleep() override { return on_sleep(); }
};

TEST_F(Loop, APollerIsAskedUntilItFindsNothingAndThenBeforeTheSleep) {
  poller one;
  int left = 5, told = 0;
  one.on_poll = [&] { return left != 0 && left-- != 0; };
  one.on_sleep = [&] {
    EXPECT_EQ(left, 0);
    ++told;
    loop_.stop();
    return true;
  };
  loop_.add(one);
  run();
  EXPECT_EQ(told, 1);
}

TEST_F(Loop, APollerIsAskedAfterEachEvent) {
  poller one;
  int asked = 0;
  one.on_poll = [&] {
    ++asked;
    return false;
  };
  loop_.add(one);
  int before = 0;
  loop_.post([&] {
    before = asked;
    loop_.post([&] {
      EXPECT_GT(asked, before);
      loop_.stop();
    });
  });
  run();
}

TEST_F(Loop, OneThatHasNewsKeepsTheLoopAwake) {
  poller one;
  int refusals = 3;
  one.on_sleep = [&] {
    if (refusals-- > 0) return false;
    loop_.stop();
    return true;
  };
  loop_.add(one);
  run();
}

TEST_F(Loop, APollerThatNeverLetsItSleepDoesNotStarveEvents) {
  poller one;
  one.on_sleep = [] { return false; };
  loop_.add(one);
  const unique_fd event = make_event(1);
  auto watch = loop_.on_readable(event.get(), [&] {
    drain(event);
    loop_.stop();
  });
  run();
}

TEST_F(Loop, ABusyPollerDoesNotStarveEvents) {
  poller one;
  one.on_poll = [] { return true; };
  loop_.add(one);
  const unique_fd event = make_event(1);
  auto watch = loop_.on_readable(event.get(), [&] {
    drain(event);
    loop_.stop();
  });
  run();
}

TEST_F(Loop, AFloodOfEventsDoesNotStarvePollers) {
  poller one;
  int asked = 0;
  one.on_poll = [&] {
    if (++asked == 10) loop_.stop();
    return true;
  };
  loop_.add(one);
  std::function<void()> again = [&] {
    if (!gave_up_ && asked < 10) loop_.post(again);
  };
  loop_.post(again);
  run();
}

TEST_F(Loop, APollerMayRemoveItselfWithoutHidingTheNext) {
  poller first, second;
  bool seen = false;
  first.on_poll = [&] {
    loop_.remove(first);
    return false;
  };
  second.on_poll = [&] {
    seen = true;
    return false;
  };
  second.on_sleep = [&] {
    EXPECT_TRUE(seen);
    loop_.stop();
    return true;
  };
  loop_.add(first);
  loop_.add(second);
  run();
}

TEST_F(Loop, APollerMayAddAnother) {
  poller first, second;
  first.on_poll = [&] {
    loop_.remove(first);
    loop_.add(second);
    return true;
  };
  second.on_poll = [&] {
    loop_.stop();
    return false;
  };
  loop_.add(first);
  run();
}

}  // namespace
}  // namespace carom::runtime

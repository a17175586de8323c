// SPDX-License-Identifier: BSL-1.0
#include "runtime/loop.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "runtime/loop_thread.hpp"
#include "runtime/unique_fd.hpp"
#include "tests/runtime/loop_fixture.hpp"

namespace carom::runtime {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

// --- post ----------------------------------------------------------------------------------------

TEST_F(Loop, RunsWhatIsPostedInOrder) {
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) loop_.post([&order, i] { order.push_back(i); });
  loop_.post([this] { loop_.stop(); });
  run();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST_F(Loop, TakesPlainFunctionsToo) {
  loop_.post([](void* argument) { static_cast<loop*>(argument)->stop(); }, &loop_);
  run();
}

TEST_F(Loop, KnowsItsThread) {
  EXPECT_FALSE(loop_.in_loop_thread());
  EXPECT_FALSE(on_loop_thread());
  loop_.post([this] {
    EXPECT_TRUE(loop_.in_loop_thread());
    EXPECT_TRUE(on_loop_thread());
    loop_.stop();
  });
  run();
  EXPECT_FALSE(loop_.in_loop_thread());
  EXPECT_FALSE(on_loop_thread());
}

TEST_F(Loop, IsWokenByAnyThread) {
  std::atomic<int> ran{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([this, &ran] {
      for (int i = 0; i < 1'000; ++i)
        loop_.post([this, &ran] {
          if (++ran == 4'000) loop_.stop();
        });
    });
  run();
  for (auto& one : threads) one.join();
  EXPECT_EQ(ran, 4'000);
}

// --- watches -------------------------------------------------------------------------------------

TEST_F(Loop, TellsEachTimeThatADescriptorIsReadable) {
  const unique_fd event = make_event(1);
  int calls = 0;
  auto watch = loop_.on_readable(event.get(), [&] {
    EXPECT_EQ(drain(event), 1u);
    if (++calls == 3) return loop_.stop();
    raise(event);
  });
  run();
  EXPECT_EQ(calls, 3);
}

TEST_F(Loop, TellsAgainWhatIsLeftToRead) {
  const unique_fd event = make_event(5);
  int calls = 0;
  auto watch = loop_.on_readable(event.get(), [&] {
    if (++calls == 3) loop_.stop();
  });
  run();
}

TEST_F(Loop, TellsThatADescriptorIsWritable) {
  const unique_fd event = make_event(0);
  auto watch = loop_.on_writable(event.get(), [&] { loop_.stop(); });
  run();
}

TEST_F(Loop, AWatchMayEndItselfInItsOwnCall) {
  const unique_fd event = make_event(1);
  int calls = 0;
  std::unique_ptr<loop::watch> watch;
  const std::vector<int> captured(100, 42);  // what the call uses must outlive its watch
  watch = loop_.on_readable(event.get(), [&, captured] {
    ++calls;
    watch.reset();
    EXPECT_EQ(captured[99], 42);
    loop_.post([this] { loop_.post([this] { loop_.stop(); }); });
  });
  run();
  EXPECT_EQ(calls, 1);
}

TEST_F(Loop, AWatchMayEndAnotherThatIsReadyToo) {
  const unique_fd first = make_event(1), second = make_event(1);
  int calls = 0;
  std::unique_ptr<loop::watch> a, b;
  const auto call = [&] {
    ++calls;
    a.reset();
    b.reset();
    loop_.post([this] { loop_.post([this] { loop_.stop(); }); });
  };
  a = loop_.on_readable(first.get(), call);
  b = loop_.on_readable(second.get(), call);
  run();
  EXPECT_EQ(calls, 1);
}

TEST_F(Loop, TwoWatchesShareADescriptorsTwoDirections) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const unique_fd out(ends[0]), in(ends[1]);
  std::unique_ptr<loop::watch> readable, writable;
  readable = loop_.on_readable(out.get(), [&] { loop_.stop(); });
  writable = loop_.on_writable(in.get(), [&] {
    ASSERT_EQ(::write(in.get(), "x", 1), 1);
    writable.reset();
  });
  run();
}

TEST_F(Loop, OneDescriptorIsWatchedForBothDirections) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const unique_fd here(ends[0]), there(ends[1]);
  std::unique_ptr<loop::watch> readable, writable;
  int writables = 0;
  readable = loop_.on_readable(here.get(), [&] {
    readable.reset();
    // The other watch goes on without it, and so does one made anew.
    writable = loop_.on_writable(here.get(), [&] {
      if (++writables == 2) return loop_.stop();
      writable.reset();
      readable = loop_.on_readable(here.get(), [&] {
        char byte = 0;
        ASSERT_EQ(::read(here.get(), &byte, 1), 1);
        readable.reset();
        writable = loop_.on_writable(here.get(), [&] {
          ++writables;
          loop_.stop();
        });
      });
    });
  });
  writable = loop_.on_writable(here.get(), [&] {
    ASSERT_EQ(::write(there.get(), "x", 1), 1);
    writable.reset();
  });
  run();
  EXPECT_EQ(writables, 2);
}

TEST_F(Loop, ADescriptorIsFreeOnceItsWatchIsGone) {
  for (int i = 0; i < 3; ++i) {
    const unique_fd event = make_event(0);
    {
      auto watch = loop_.on_readable(event.get(), [] { FAIL(); });
    }
    auto again = loop_.on_readable(event.get(), [] { FAIL(); });
  }
  const unique_fd event = make_event(1);
  auto watch = loop_.on_readable(event.get(), [&] {
    drain(event);
    loop_.stop();
  });
  run();
}

// --- timers --------------------------------------------------------------------------------------

TEST_F(Loop, ATimerFiresOncePerArming) {
  int fired = 0;
  std::unique_ptr<loop::timer> timer;
  timer = loop_.make_timer([&] {
    if (++fired < 3) return timer->arm(milliseconds(1));
    loop_.stop();
  });
  timer->arm(milliseconds(0));
  run();
  EXPECT_EQ(fired, 3);
}

TEST_F(Loop, ATimerDoesNotFireEarly) {
  const auto begin = std::chrono::steady_clock::now();
  auto timer = loop_.make_timer([this] { loop_.stop(); });
  timer->arm(milliseconds(20));
  run();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(20));
}

TEST_F(Loop, ArmingAgainTakesTheFormerCallBack) {
  int fired = 0;
  auto later = loop_.make_timer([&] { ++fired; });
  auto end = loop_.make_timer([this] { loop_.stop(); });
  later->arm(milliseconds(0));
  later->arm(hours(1));
  end->arm(milliseconds(2));
  run();
  EXPECT_EQ(fired, 0);
}

TEST_F(Loop, ACancelledOrDestroyedTimerDoesNotFire) {
  int fired = 0;
  auto cancelled = loop_.make_timer([&] { ++fired; });
  auto destroyed = loop_.make_timer([&] { ++fired; });
  auto end = loop_.make_timer([this] { loop_.stop(); });
  cancelled->arm(milliseconds(0));
  destroyed->arm(milliseconds(0));
  cancelled->cancel();
  destroyed.reset();
  end->arm(milliseconds(2));
  run();
  EXPECT_EQ(fired, 0);
}

TEST_F(Loop, ATimerWhoseTimeHasComeIsStillTakenBack) {
  int fired = 0;
  std::unique_ptr<loop::timer> first, second;
  const auto call = [&] {
    ++fired;
    first.reset();
    second.reset();
    loop_.post([this] { loop_.post([this] { loop_.stop(); }); });
  };
  first = loop_.make_timer(call);
  second = loop_.make_timer(call);
  first->arm(milliseconds(0));
  second->arm(milliseconds(0));
  run();
  EXPECT_EQ(fired, 1) << "both were due, and one ended both in its call";
}

}  // namespace
}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
// Waiting: time-outs, non-blocking ends, partial messages, signals, threads, wait().
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <carom/connection.hpp>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/connection/child.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using carom::connection;
using carom::process_error;
using carom::timeout_error;
using carom::test::child;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;
using clock_type = std::chrono::steady_clock;

const std::vector<std::byte> large(4 << 20, std::byte{'L'});  // more than a socket holds

TEST_F(Parity, Connection_poll_waits_for_a_message) {
  auto [a, b] = carom::pipe();
  EXPECT_FALSE(b.poll());
  const auto before = clock_type::now();
  EXPECT_FALSE(b.poll(30ms));
  EXPECT_GE(clock_type::now() - before, 30ms);
  EXPECT_FALSE(b.poll(-1s)) << "less than nothing is nothing";
  a.send(1);
  EXPECT_TRUE(b.poll(std::chrono::hours::max())) << "for ever, without overflow";
  EXPECT_TRUE(b.poll());
  b.recv<int>();
  EXPECT_FALSE(b.poll());
}

TEST_F(Parity, Connection_poll_is_ended_by_a_death) {
  auto [mine, its] = carom::pipe();
  child other([&, &mine = mine] {
    mine.close();
    for (;;) ::pause();
  });
  its.close();
  EXPECT_FALSE(mine.poll());
  other.kill();
  EXPECT_TRUE(mine.poll(30s));
  EXPECT_TRUE(mine.at_end());
}

TEST_F(Parity, Connection_recv_with_a_timeout_keeps_what_has_come) {
  auto [a, b] = carom::pipe();
  EXPECT_THROW(b.recv<int>(10ms), timeout_error);
  EXPECT_THROW(b.recv_bytes(connection::no_limit, 0ms), timeout_error);
  std::size_t offset = *a.send_offset(large, 0);
  ASSERT_LT(offset, large.size());
  EXPECT_THAT([&b = b] { b.recv_bytes(connection::no_limit, 1ms); },
              ThrowsMessage<timeout_error>(HasSubstr("its beginning is kept")));
  std::vector<std::byte> buffer(large.size());
  b.setblocking(false);
  while (offset != large.size()) {
    offset += a.send_offset(large, offset).value_or(0);
    EXPECT_THROW(
        {
          if (offset == large.size()) throw timeout_error();  // then it is there
          b.recv_bytes_into(buffer);
        },
        timeout_error);
  }
  EXPECT_EQ(b.recv_bytes_into(buffer), large.size());
  EXPECT_EQ(buffer, large);
}

TEST_F(Parity, Connection_recv_bytes_into_goes_on_in_another_buffer) {
  auto [a, b] = carom::pipe();
  b.setblocking(false);
  const std::size_t begun = *a.send_offset(large, 0);
  std::vector<std::byte> first(large.size()), second(large.size());
  EXPECT_THROW(b.recv_bytes_into(first), timeout_error);
  std::thread sender([&, &a = a] {
    for (std::size_t offset = begun; offset != large.size();)
      offset += a.send_offset(large, offset).value_or(0);
  });
  b.setblocking(true);
  EXPECT_EQ(b.recv_bytes_into(second), large.size());
  EXPECT_EQ(second, large);
  sender.join();
}

TEST_F(Parity, Connection_nonblocking_ends_of_a_pipe) {
  auto [a, b] = carom::pipe(true, true, false);
  EXPECT_FALSE(a.blocking());
  EXPECT_TRUE(b.blocking());
  EXPECT_THROW(a.recv<int>(), timeout_error);
  EXPECT_THROW(a.recv_bytes(), timeout_error);
  auto [reader, writer] = carom::pipe(false, false, true);
  EXPECT_TRUE(reader.blocking());
  EXPECT_FALSE(writer.blocking());
  int taken = 0;
  try {
    for (;; ++taken) writer.send(taken);
  } catch (const timeout_error&) {
  }
  EXPECT_GT(taken, 0);
  for (int i = 0; i < taken; ++i) ASSERT_EQ(reader.recv<int>(), i);
  EXPECT_FALSE(reader.poll()) << "what was refused was not sent in part";
  writer.send(-1);
  EXPECT_EQ(reader.recv<int>(), -1);
}

TEST_F(Parity, Connection_nonblocking_send_keeps_the_rest_of_a_message) {
  auto [a, b] = carom::pipe();
  a.setblocking(false);
  a.send_bytes(large);  // taken, in part still here
  EXPECT_FALSE(a.flush());
  EXPECT_THAT([&a = a] { a.send(1); }, ThrowsMessage<timeout_error>(HasSubstr("flush()")));
  std::thread receiver([&b = b] {
    EXPECT_EQ(b.recv_bytes(), large);
    EXPECT_EQ(b.recv<int>(), 2);
  });
  EXPECT_TRUE(a.flush(30s));
  a.send(2);
  receiver.join();
}

TEST_F(Parity, Connection_send_offset_sends_what_goes) {
  auto [a, b] = carom::pipe();
  std::size_t offset = 0;
  EXPECT_THROW(a.send_offset(large, 1), std::invalid_argument) << "no message has been begun";
  offset += a.send_offset(large, offset).value();
  EXPECT_GT(offset, 0u);
  EXPECT_LT(offset, large.size());
  EXPECT_EQ(a.send_offset(large, offset), std::nullopt) << "nobody has read";
  EXPECT_THROW(a.send(1), process_error) << "it would be taken for the rest";
  EXPECT_THROW(a.send_offset(large, offset - 1), std::invalid_argument);
  EXPECT_THROW(a.send_offset(std::span(large).first(offset), offset), std::invalid_argument);
  std::thread receiver([&b = b] { EXPECT_EQ(b.recv_bytes(), large); });
  while (offset != large.size()) {
    if (const auto more = a.send_offset(large, offset))
      offset += *more;
    else
      carom::test::eventually([&, &a = a] {
        const auto taken = a.send_offset(large, offset);
        offset += taken.value_or(0);
        return taken.has_value();
      });
  }
  receiver.join();
  EXPECT_EQ(a.send_offset({}, 0), 0u) << "an empty message";
  EXPECT_TRUE(b.recv_bytes().empty());
  a.send(1);
  EXPECT_EQ(b.recv<int>(), 1);
}

/// Counts the signals it gets, without SA_RESTART.
class alarms {
 public:
  alarms() {
    struct sigaction action {};
    action.sa_handler = [](int) { ++count; };
    ::sigaction(SIGALRM, &action, &before_);
    const itimerval often{{0, 500}, {0, 500}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
  }
  ~alarms() {
    const itimerval none{};
    ::setitimer(ITIMER_REAL, &none, nullptr);
    ::sigaction(SIGALRM, &before_, nullptr);
  }
  static inline std::atomic<int> count{0};

 private:
  struct sigaction before_ {};
};

TEST_F(Parity, Connection_waits_go_on_after_signals) {
  auto [mine, its] = carom::pipe();
  child other([&, &mine = mine, &its = its] {
    mine.close();
    for (int i = 0; i < 20; ++i) {
      its.send_bytes(large);
      if (its.recv_bytes() != large) throw std::runtime_error("a wrong message");
    }
    carom::test::board::wait(0);
    its.send(1);
  });
  its.close();
  const alarms ringing;
  std::vector<std::byte> buffer(large.size());
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(mine.recv_bytes_into(buffer), large.size());
    ASSERT_EQ(buffer, large);
    mine.send_bytes(buffer);
  }
  alarms::count = 0;
  std::thread releaser([] {
    carom::test::eventually([] { return alarms::count >= 5; });
    carom::test::board::set(0, 1);
  });
  EXPECT_TRUE(mine.poll(1min));
  EXPECT_EQ(mine.recv<int>(), 1);
  releaser.join();
  EXPECT_EQ(other.join(), 0);
}

TEST_F(Parity, Connection_one_thread_sends_while_another_receives) {
  auto [a, b] = carom::pipe();
  constexpr int count = 2000;
  const auto sends = [](connection& c) {
    for (int i = 0; i < count; ++i) c.send(std::vector<int>(static_cast<std::size_t>(i), i));
  };
  const auto receives = [](connection& c) {
    for (int i = 0; i < count; ++i)
      ASSERT_EQ(c.recv<std::vector<int>>(), std::vector<int>(static_cast<std::size_t>(i), i));
  };
  std::thread threads[] = {std::thread([&, &a = a] { sends(a); }),
                           std::thread([&, &b = b] { sends(b); }),
                           std::thread([&, &a = a] { receives(a); })};
  receives(b);
  for (auto& each : threads) each.join();
}

TEST_F(Parity, Connection_wait_tells_which_are_ready) {
  auto [a, b] = carom::pipe();
  auto [c, d] = carom::pipe();
  child other([] { carom::test::board::wait(0); });
  const carom::file_descriptor event(::eventfd(0, EFD_CLOEXEC));
  const auto ready = [&, &b = b, &d = d](auto... timeout) {
    return carom::wait({b, other.sentinel(), d, event}, timeout...);
  };
  EXPECT_THAT(ready(0ms), IsEmpty());
  EXPECT_THAT(ready(5ms), IsEmpty());
  c.send(1);
  EXPECT_THAT(ready(), ElementsAre(2));
  a.send(1);
  EXPECT_THAT(ready(1h), ElementsAre(0, 2));
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
  EXPECT_THAT(ready(std::chrono::hours::max()), ElementsAre(0, 2, 3));
  b.recv<int>();
  d.recv<int>();
  carom::test::board::set(0, 1);
  ASSERT_TRUE(carom::test::wait_for_end(other.sentinel()));
  EXPECT_THAT(ready(), ElementsAre(1, 3));
  a.close();
  EXPECT_THAT(ready(), ElementsAre(0, 1, 3)) << "an end is to be received";
}

TEST_F(Parity, Connection_wait_for_nothing_returns_at_once) {
  EXPECT_THAT(carom::wait({}), IsEmpty());
  EXPECT_THAT(carom::wait(std::vector<int>{}, 1h), IsEmpty());
}

TEST_F(Parity, Connection_wait_refuses_what_cannot_become_ready) {
  auto [reader, writer] = carom::pipe(false);
  EXPECT_THROW(carom::wait({reader, writer}), process_error);
  reader.close();
  EXPECT_THROW(carom::wait({reader}), process_error);
  EXPECT_THROW(carom::wait({-1}), std::invalid_argument);
  const int closed = ::dup(writer.fileno());
  ::close(closed);
  EXPECT_THAT([&] { carom::wait({closed}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr(std::to_string(closed))));
}

TEST_F(Parity, Connection_wait_does_not_see_what_is_skipped) {
  auto [a, b] = carom::pipe();
  std::size_t offset = *a.send_offset(large, 0);
  EXPECT_THROW(b.recv_bytes(10), process_error);
  while (offset != large.size()) {
    offset += a.send_offset(large, offset).value_or(0);
    EXPECT_THAT(carom::wait({b}, 0ms), IsEmpty());
  }
  a.send(1);
  EXPECT_THAT(carom::wait({b}), ElementsAre(0));
  EXPECT_EQ(b.recv<int>(), 1);
}

TEST_F(Parity, Connection_wait_for_thousands) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit before = limit;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  {
    const std::size_t count = std::min<std::size_t>(3000, (limit.rlim_cur - 100) / 2);
    std::vector<connection> senders, receivers;
    for (std::size_t i = 0; i < count; ++i) {
      auto [a, b] = carom::pipe();
      senders.push_back(std::move(a));
      receivers.push_back(std::move(b));
    }
    senders[7].send(7);
    senders[count - 1].send(8);
    EXPECT_THAT(carom::wait(receivers), ElementsAre(7, count - 1));
    for (auto& each : senders) each.send(1);
    EXPECT_EQ(carom::wait(receivers, 1h).size(), count);
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(Parity, Connection_wait_serves_until_all_children_have_finished) {
  std::vector<connection> readers;
  std::vector<child> children;
  for (int i = 0; i < 4; ++i) {
    auto [reader, writer] = carom::pipe(false);
    children.emplace_back([&, &writer = writer] {
      readers.clear();
      for (int k = 0; k < 10; ++k) writer.send(std::pair(i, k));
    });
    readers.push_back(std::move(reader));
  }
  std::vector<int> next(4);
  while (!readers.empty()) {
    const auto ready = carom::wait(readers, 1min);
    ASSERT_FALSE(ready.empty());
    for (auto at = ready.rbegin(); at != ready.rend(); ++at) {
      connection& reader = readers[*at];
      if (reader.at_end()) {
        readers.erase(readers.begin() + static_cast<std::ptrdiff_t>(*at));
        continue;
      }
      const auto [i, k] = reader.recv<std::pair<int, int>>();
      EXPECT_EQ(k, next[static_cast<std::size_t>(i)]++);
    }
  }
  EXPECT_EQ(next, (std::vector<int>(4, 10)));
  for (auto& each : children) EXPECT_EQ(each.join(), 0);
}

}  // namespace

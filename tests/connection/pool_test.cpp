// SPDX-License-Identifier: BSL-1.0
// Connections between a host and the tasks of its pools.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <carom/actor.hpp>  // sees CAF: pools are not in ThreadSanitizer's build
#include <carom/carom.hpp>
#include <string>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using carom::connection;
using carom::process_error;
using carom::soft_time_limit_exceeded;
using namespace std::chrono_literals;
namespace board = carom::test::board;

int add_up(connection c, int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += c.recv<int>();
  c.send(sum);
  return sum;
}

connection make_one(std::string text) {
  auto [near, far] = carom::pipe();
  near.send(text);
  return std::move(far);
}

std::string relay(std::vector<connection> all) {
  all.at(1).send(all.at(0).recv<std::string>() + ", relayed");
  return "done";
}

connection kept;
void keep(connection given) { kept = std::move(given); }
void say_who() { kept.send(::getpid()); }

TEST_F(Parity, Connection_is_an_argument_of_a_task) {
  carom::pool pool{{.processes = 1}};
  auto [mine, its] = carom::pipe();
  auto result = pool.apply_async(add_up, std::move(its), 3);
  EXPECT_TRUE(its.closed());  // NOLINT(bugprone-use-after-move): is what is tested
  for (int i = 1; i <= 3; ++i) mine.send(i);
  EXPECT_EQ(mine.recv<int>(), 6);
  EXPECT_EQ(result.get(), 6);
  EXPECT_TRUE(mine.poll(30s));
  EXPECT_TRUE(mine.at_end()) << "no copy has stayed in the worker, the task's bytes, or here";
}

TEST_F(Parity, Connection_is_a_result_of_a_task) {
  carom::pool pool{{.processes = 1}};
  auto result = pool.apply_async(make_one, "made there");
  connection one = result.get();
  connection again = result.get();
  EXPECT_NE(one.fileno(), again.fileno()) << "each get() gives a descriptor of its own";
  EXPECT_EQ(one.recv<std::string>(), "made there");
  EXPECT_TRUE(again.at_end()) << "of the same end";
}

TEST_F(Parity, Connections_in_a_container_are_an_argument) {
  carom::pool pool{{.processes = 1}};
  auto [a, from] = carom::pipe();
  auto [b, to] = carom::pipe();
  std::vector<connection> ends;
  ends.push_back(std::move(from));
  ends.push_back(std::move(to));
  a.send("said");
  EXPECT_EQ(pool.apply(relay, std::move(ends)), "done");
  EXPECT_EQ(b.recv<std::string>(), "said, relayed");
}

TEST_F(Parity, Connection_of_an_initializer) {
  auto [mine, its] = carom::pipe();
  carom::pool pool{{.processes = 1, .initializer = carom::call(keep, std::move(its))}};
  pool.apply(say_who);
  const auto first = mine.recv<pid_t>();
  pool.restart();
  do pool.apply(say_who);  // until the next worker, which has its own
  while (mine.recv<pid_t>() == first);
}

TEST_F(Parity, Connection_ends_with_its_worker) {
  carom::pool pool{{.processes = 1}};
  auto [mine, its] = carom::pipe();
  auto result = pool.apply_async(add_up, std::move(its), 1'000'000);
  mine.send(1);
  while (!result.accepted()) mine.poll(1ms);
  ::kill(result.worker_pid(), SIGKILL);
  EXPECT_THROW(result.get(), carom::worker_lost);
  EXPECT_THROW(for (;;) mine.recv<int>(), process_error);
  EXPECT_TRUE(mine.at_end());
}

TEST_F(Parity, Connection_errors_of_a_task_come_back_as_themselves) {
  carom::pool pool{{.processes = 1}};
  auto [mine, its] = carom::pipe();
  mine.close();
  EXPECT_THROW(pool.apply(add_up, std::move(its), 1), process_error);
}

enum class operation { recv, recv_timed, recv_into, poll, wait, accept, client };

void wait_by(operation what, connection c) {
  std::vector<std::byte> buffer(100);
  switch (what) {
    case operation::recv: c.recv<int>(); return;
    case operation::recv_timed: c.recv<int>(1h); return;
    case operation::recv_into: c.recv_bytes_into(buffer); return;
    case operation::poll: c.poll(1h); return;
    case operation::wait: carom::wait({c}); return;
    case operation::accept: carom::listener{{.authkey = carom::authkey("k")}}.accept(); return;
    case operation::client: {
      carom::listener deaf;
      carom::client(deaf.address(), carom::authkey("k"), 1h);
      return;
    }
  }
}

TEST_F(Parity, Connection_waits_notice_a_soft_time_limit) {
  carom::pool pool{{.processes = 2, .soft_time_limit = 30ms}};
  for (const auto what : {operation::recv, operation::recv_timed, operation::recv_into,
                          operation::poll, operation::wait, operation::accept, operation::client}) {
    auto [mine, its] = carom::pipe();
    EXPECT_THROW(pool.apply(wait_by, what, std::move(its)), soft_time_limit_exceeded)
        << static_cast<int>(what);
  }
}

/// A send that a soft limit interrupts half-way, and one after it.
void send_late(connection c) {
  const std::string large(1 << 20, 'L');
  try {
    c.send(large);
  } catch (const soft_time_limit_exceeded&) {
    board::set(0, 1);
    c.send("late");
    return;
  }
  throw std::logic_error("nobody has read");
}

TEST_F(Parity, Connection_send_interrupted_by_a_soft_time_limit_goes_on) {
  // On a slow machine a short limit may come before the send has begun: then nothing of it is
  // there.
  for (auto limit = 30ms;; limit *= 4) {
    board::reset();
    carom::pool pool{{.processes = 1, .soft_time_limit = limit}};
    auto [mine, its] = carom::pipe();
    auto result = pool.apply_async(send_late, std::move(its));
    ASSERT_TRUE(board::wait(0));
    const auto first = mine.recv<std::string>();
    if (first == "late" && limit < 20s) {
      result.get();
      continue;
    }
    EXPECT_TRUE(first == std::string(1 << 20, 'L')) << "whole, though interrupted";
    EXPECT_EQ(mine.recv<std::string>(), "late");
    result.get();
    break;
  }
}

int receive_late(connection c) {
  try {
    c.recv<std::string>();
  } catch (const soft_time_limit_exceeded&) {
    board::set(0, 1);
    return static_cast<int>(c.recv<std::string>().size());
  }
  throw std::logic_error("it was not whole");
}

TEST_F(Parity, Connection_receive_interrupted_by_a_soft_time_limit_goes_on) {
  carom::pool pool{{.processes = 1, .soft_time_limit = 30ms}};
  auto [mine, its] = carom::pipe();
  auto result = pool.apply_async(receive_late, std::move(its));
  // The beginning of a message by hand; the rest when the limit has passed.
  const std::string text(100'000, 'x');
  carom::detail::blob packed;
  carom::detail::encode(packed, text);
  auto [probe, wire] = carom::pipe();
  probe.send(text);
  std::vector<char> frame(24 + packed.size());
  for (std::size_t at = 0; at != frame.size();)
    at += static_cast<std::size_t>(::read(wire.fileno(), &frame[at], frame.size() - at));
  ASSERT_EQ(::write(mine.fileno(), frame.data(), 1000), 1000);
  ASSERT_TRUE(board::wait(0));
  ASSERT_EQ(::write(mine.fileno(), frame.data() + 1000, frame.size() - 1000),
            static_cast<ssize_t>(frame.size() - 1000));
  EXPECT_EQ(result.get(), 100'000);
}

TEST_F(Parity, Connection_listeners_and_clients_in_tasks) {
  carom::pool pool{{.processes = 2}};
  const carom::authkey key("not secret");  // a task cannot be given one
  carom::listener l{{.authkey = key}};
  auto results = pool.map_async(
      [](const std::pair<carom::socket_address, int>& job) {
        connection c = carom::client(job.first, carom::authkey("not secret"));
        c.send(job.second);
        return c.recv<int>();
      },
      std::vector<std::pair<carom::socket_address, int>>{
          {l.address(), 1}, {l.address(), 2}, {l.address(), 3}});
  for (int i = 0; i < 3; ++i) {
    connection c = l.accept();
    c.send(c.recv<int>() * 10);
  }
  EXPECT_EQ(results.get(), (std::vector<int>{10, 20, 30}));
}

}  // namespace

// SPDX-License-Identifier: BSL-1.0
// Queues as actors: requests of CAF actors.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <carom/actor.hpp>
#include <carom/queue.hpp>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;

struct quiet_config : caf::actor_system_config {
  quiet_config() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", std::size_t{1});
  }
};

TEST_F(Parity, Queue_actor_get_and_put) {
  carom::queue<std::string> q;
  quiet_config config;
  caf::actor_system system{config};
  const auto queue = carom::queue_actor(system, q);
  caf::scoped_actor self{system};
  std::string got;
  const auto fails = [](const caf::error& e) { ADD_FAILURE() << caf::to_string(e); };

  q.put("from a thread");
  self->request(queue, 20s, carom::queue_get{})
      .receive([&](std::string& value) { got = value; }, fails);
  EXPECT_EQ(got, "from a thread");

  self->request(queue, 20s, carom::queue_put(q, "from an actor")).receive([] {}, fails);
  EXPECT_EQ(q.get(), "from an actor");

  std::thread later([&] { q.put(std::string(100'000, 'x')); });
  self->request(queue, 20s, carom::queue_get{})
      .receive([&](std::string& value) { got = value; }, fails);
  later.join();
  EXPECT_EQ(got.size(), 100'000u);
  self->request(queue, 20s, carom::queue_put(q, std::string(100'000, 'y'))).receive([] {}, fails);
  EXPECT_EQ(q.get().size(), 100'000u);
}

/// All descriptors of this process that its soft limit, lowered for the time, leaves free.
class taken_descriptors {
 public:
  taken_descriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit lower = before_;
    lower.rlim_cur = 256;
    ::setrlimit(RLIMIT_NOFILE, &lower);
    for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) held_.push_back(fd);
  }
  taken_descriptors(const taken_descriptors&) = delete;
  taken_descriptors& operator=(const taken_descriptors&) = delete;
  ~taken_descriptors() {
    for (const int fd : held_) ::close(fd);
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }
  std::size_t count() const { return held_.size(); }

 private:
  rlimit before_{};
  std::vector<int> held_;
};

TEST_F(Failures, 19_a_queue_actor_gives_large_items_without_a_free_descriptor) {
  carom::queue<std::string> q;
  quiet_config config;
  caf::actor_system system{config};
  const auto queue = carom::queue_actor(system, q);
  caf::scoped_actor self{system};
  const std::string large(1'000'000, 'x');
  for (int i = 0; i != 2; ++i) q.put(large);
  const auto fails = [](const caf::error& e) { ADD_FAILURE() << caf::to_string(e); };
  const auto ask = [&] {
    std::string got;
    self->request(queue, 20s, carom::queue_get{})
        .receive([&](std::string& value) { got = std::move(value); }, fails);
    return got;
  };
  {
    const taken_descriptors all;
    ASSERT_GT(all.count(), 0u);
    ASSERT_LT(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    EXPECT_TRUE(ask() == large);
  }
  EXPECT_TRUE(ask() == large);
  EXPECT_TRUE(q.empty());
}

TEST_F(Parity, Queue_actor_timeouts_and_bounds) {
  carom::queue<int> q(1);
  quiet_config config;
  caf::actor_system system{config};
  const auto queue = carom::queue_actor(system, q);
  caf::scoped_actor self{system};
  const auto code = [](carom::actor_errc wanted) {
    return [wanted](const caf::error& e) {
      EXPECT_EQ(e.category(), carom::error_category());
      EXPECT_EQ(e.code(), static_cast<std::uint8_t>(wanted));
    };
  };
  self->request(queue, 20s, carom::queue_get{10ms})
      .receive([](int) { ADD_FAILURE() << "nothing is there"; },
               code(carom::actor_errc::queue_empty));
  q.put(1);
  self->request(queue, 20s, carom::queue_put(q, 2, 10ms))
      .receive([] { ADD_FAILURE() << "it is full"; }, code(carom::actor_errc::queue_full));
  EXPECT_EQ(q.qsize(), 1u);
  EXPECT_EQ(q.get(), 1);
  EXPECT_TRUE(q.empty());
  self->request(queue, 20s, carom::queue_put(q, 3))
      .receive([] {}, [](const caf::error& e) { ADD_FAILURE() << caf::to_string(e); });
  EXPECT_EQ(q.get(), 3);
}

TEST_F(Parity, Queue_actor_who_goes_down_takes_its_requests_back) {
  carom::queue<int> q;
  quiet_config config;
  caf::actor_system system{config};
  {
    const auto queue = carom::queue_actor(system, q);
    const auto client = system.spawn(
        [](caf::event_based_actor* self, const caf::actor& asked) -> caf::behavior {
          self->request(asked, caf::infinite, carom::queue_get{}).then([](int) {});
          return {[](caf::ok_atom) { return 1; }};
        },
        queue);
    caf::scoped_actor self{system};
    self->request(client, 20s, caf::ok_atom::value).receive([](int) {}, [](const caf::error&) {});
    caf::anon_send_exit(client, caf::exit_reason::kill);
    self->wait_for(client);
    // Answered only behind what the client's end has caused.
    self->request(queue, 20s, carom::queue_get{1ms}).receive([](int) {}, [](const caf::error&) {});
  }
  q.put(1);
  EXPECT_EQ(q.get(std::chrono::seconds(20)), 1);
}

caf::behavior asks_for_ever(caf::event_based_actor* self, const caf::actor& queue) {
  self->request(queue, caf::infinite, carom::queue_get{})
      .then([](int) {}, [](const caf::error&) {});
  return {[](caf::ok_atom) { return 1; }};
}

/// Keeps the system's one thread until `go`.
class held_thread {
 public:
  explicit held_thread(caf::actor_system& system) {
    system.spawn(
        [](caf::event_based_actor*, held_thread* held) {
          held->busy_.set_value();
          held->go_.get_future().wait();
        },
        this);
    busy_.get_future().wait();
  }
  ~held_thread() { go_.set_value(); }

 private:
  std::promise<void> busy_, go_;
};

TEST_F(Parity, Queue_actor_that_ends_asks_for_nothing_more) {
  carom::queue<int> q;
  quiet_config config;
  caf::actor_system system{config};
  caf::scoped_actor self{system};
  auto queue = carom::queue_actor(system, q);
  const auto client = system.spawn(asks_for_ever, queue);
  self->request(client, 20s, caf::ok_atom::value).receive([](int) {}, [](const caf::error&) {});
  self->request(queue, 20s, carom::queue_get{1ms}).receive([](int) {}, [](const caf::error&) {});
  caf::anon_send_exit(queue, caf::exit_reason::kill);
  self->wait_for(queue);
  for (int i = 0; i < 10; ++i) q.put(i);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(q.get(20s), i);
  caf::anon_send_exit(client, caf::exit_reason::kill);
}

TEST_F(Parity, Queue_actor_gives_back_what_comes_behind_its_end) {
  carom::queue<int> q;
  quiet_config config;
  caf::actor_system system{config};
  caf::scoped_actor self{system};
  auto queue = carom::queue_actor(system, q);
  const auto client = system.spawn(asks_for_ever, queue);
  self->request(client, 20s, caf::ok_atom::value).receive([](int) {}, [](const caf::error&) {});
  self->request(queue, 20s, carom::queue_get{1ms}).receive([](int) {}, [](const caf::error&) {});
  {
    const held_thread held(system);
    caf::anon_send_exit(queue, caf::exit_reason::kill);
    q.put(1);
    ASSERT_TRUE(carom::test::eventually([&] { return q.empty(); })) << "it is on its way";
  }
  EXPECT_EQ(q.get(20s), 1);
  caf::anon_send_exit(client, caf::exit_reason::kill);
}

}  // namespace

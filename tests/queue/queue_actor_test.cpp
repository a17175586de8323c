// SPDX-License-Identifier: BSL-1.0
// Queues as actors: requests of CAF actors.
#include <gtest/gtest.h>

#include <caf/all.hpp>
#include <carom/actor.hpp>
#include <carom/queue.hpp>
#include <chrono>
#include <string>
#include <thread>

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
    const auto client = system.spawn([queue](caf::event_based_actor* self) -> caf::behavior {
      self->request(queue, caf::infinite, carom::queue_get{}).then([](int) {});
      return {[](caf::ok_atom) { return 1; }};
    });
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

}  // namespace

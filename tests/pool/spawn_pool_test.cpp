// SPDX-License-Identifier: BSL-1.0
// The row `spawn_pool` of api.md: a pool as an actor of the application's own system.
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <carom/actor.hpp>
#include <carom/carom.hpp>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "runtime/loop_thread.hpp"
#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/processes.hpp"

namespace {

namespace board = carom::test::board;
using namespace std::chrono_literals;

constexpr auto patience = 30s;

std::string repeated(const std::string& text, std::size_t times) {
  std::string all;
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

struct point_there {
  int x = 0, y = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& x& y;
  }
};
point_there mirrored_there(point_there p) { return {p.y, p.x}; }

int fail_there(const std::string& why) { throw std::runtime_error(why); }

/// An application with an actor system and a pool in it. Its end waits for all actors.
class service {
 public:
  explicit service(carom::pool_options options = {.processes = 2})
      : pool(carom::spawn_pool(system_, std::move(options))) {}
  ~service() { self->send_exit(pool, caf::exit_reason::user_shutdown); }

  template <class R, class... Ts>
  R ask(carom::packed_call call) {
    R reply{};
    self->request(pool, patience, std::move(call))
        .receive([&](const R& value) { reply = value; },
                 [&](const caf::error& e) { ADD_FAILURE() << system_.render(e); });
    return reply;
  }
  caf::error error_of(carom::packed_call call) {
    caf::error error;
    self->request(pool, patience, std::move(call))
        .receive([&](caf::message&) { ADD_FAILURE() << "no error"; },
                 [&](caf::error& e) { error = std::move(e); });
    return error;
  }
  std::string text_of(const caf::error& error) { return system_.render(error); }
  caf::actor_system& system() { return system_; }

 private:
  caf::actor_system_config config_;
  caf::actor_system system_{config_};

 public:
  caf::scoped_actor self{system_};
  caf::actor pool;
};

void expect_error(service& app, const caf::error& error, carom::actor_errc code,
                  const std::string& text) {
  EXPECT_EQ(error.category(), carom::error_category());
  EXPECT_EQ(error.code(), static_cast<std::uint8_t>(code)) << app.text_of(error);
  EXPECT_NE(app.text_of(error).find(text), std::string::npos) << app.text_of(error);
}

}  // namespace

TEST_F(Parity, Spawn_pool_request_gives_the_value) {
  service app;
  EXPECT_EQ(app.ask<int>(carom::call(tasks::square, 7)), 49);
  EXPECT_EQ(app.ask<std::string>(carom::call(repeated, "ab", 3)), "ababab");
  EXPECT_EQ(app.ask<double>(carom::call([] { return 2.5; })), 2.5);
  EXPECT_EQ(app.ask<std::vector<int>>(carom::call([] {
    return std::vector{1, 2};
  })),
            (std::vector{1, 2}));
}

TEST_F(Parity, Spawn_pool_request_of_a_void_function) {
  service app;
  bool replied = false;
  app.self->request(app.pool, patience, carom::call(tasks::nothing))
      .receive([&] { replied = true; },
               [&](const caf::error& e) { ADD_FAILURE() << app.text_of(e); });
  EXPECT_TRUE(replied);
}

TEST_F(Parity, Spawn_pool_request_with_a_type_that_caf_does_not_know) {
  service app;
  point_there got;
  app.self->request(app.pool, patience, carom::call(mirrored_there, point_there{1, 2}))
      .receive([&](const carom::result<point_there>& value) { got = value.value(); },
               [&](const caf::error& e) { ADD_FAILURE() << app.text_of(e); });
  EXPECT_EQ(got.x, 2);
  EXPECT_EQ(got.y, 1);
}

TEST_F(Parity, Spawn_pool_request_with_large_values) {
  service app;
  const std::string kilobyte(1024, 'k');
  for (const std::size_t size : {63, 64, 65, 5000})
    EXPECT_EQ(app.ask<std::string>(carom::call(repeated, kilobyte, size)).size(), size * 1024);
}

TEST_F(Parity, Spawn_pool_system_ends_while_the_loop_goes_on) {
  carom::pool other{{.processes = 1}};
  {
    service app;
    EXPECT_EQ(app.ask<std::string>(carom::call(repeated, "ab", 100'000)).size(), 200'000u);
  }
  EXPECT_EQ(other.apply(tasks::square, 2), 4);
}

TEST_F(Parity, Spawn_pool_request_that_fails) {
  service app;
  using enum carom::actor_errc;
  expect_error(app, app.error_of(carom::call(fail_there, "why")), task, "why");
  expect_error(app, app.error_of(carom::call(tasks::die_of, SIGSEGV)), worker_lost, "SIGSEGV");
  expect_error(app, app.error_of(carom::packed_call()), invalid_call, "");
  EXPECT_EQ(app.ask<int>(carom::call(tasks::square, 3)), 9);
}

TEST_F(Parity, Spawn_pool_many_requests) {
  service app;
  std::vector<decltype(app.self->request(app.pool, patience, carom::packed_call()))> requests;
  for (int i = 0; i < 500; ++i)
    requests.push_back(app.self->request(app.pool, patience, carom::call(tasks::square, i)));
  int expected = 0;
  for (auto& each : requests) {
    each.receive([&](int y) { EXPECT_EQ(y, expected * expected); },
                 [&](const caf::error& e) { ADD_FAILURE() << app.text_of(e); });
    ++expected;
  }
}

TEST_F(Parity, Spawn_pool_request_from_an_event_based_actor) {
  service app;
  const auto ask = [&](caf::event_based_actor* self, int x) {
    self->request(app.pool, patience, carom::call(tasks::square, x))
        .then([self, to = caf::actor_cast<caf::actor>(app.self)](int y) { self->send(to, y); });
  };
  const auto client = app.system().spawn(ask, 5);
  int got = 0;
  app.self->receive([&](int y) { got = y; }, caf::after(patience) >> [] { ADD_FAILURE(); });
  EXPECT_EQ(got, 25);
}

TEST_F(Parity, Spawn_pool_request_that_is_waited_for_too_long) {
  service app;
  bool timed_out = false;
  app.self->request(app.pool, 20ms, carom::call(tasks::hold, begun, release))
      .receive([](pid_t) { ADD_FAILURE(); },
               [&](const caf::error& e) { timed_out = e == caf::sec::request_timeout; });
  EXPECT_TRUE(timed_out);
  board::set(release, 1);
  EXPECT_EQ(app.ask<int>(carom::call(tasks::square, 2)), 4);
}

TEST_F(Parity, Spawn_pool_exit_message_ends_it) {
  service app;
  app.self->monitor(app.pool);
  const auto held = app.self->request(app.pool, patience, carom::call(tasks::hold, begun, release));
  ASSERT_TRUE(board::wait(begun));
  app.self->send_exit(app.pool, caf::exit_reason::user_shutdown);
  auto pending = held;
  pending.receive(
      [](pid_t) { ADD_FAILURE() << "the task has ended"; },
      [&](const caf::error& e) { expect_error(app, e, carom::actor_errc::terminated, ""); });
  bool down = false;
  app.self->receive(
      [&](const caf::down_msg& message) {
        down = true;
        EXPECT_EQ(message.source, app.pool.address());
        EXPECT_TRUE(message.reason == caf::exit_reason::user_shutdown)
            << app.text_of(message.reason);
      },
      caf::after(patience) >> [] {});
  EXPECT_TRUE(down);
}

TEST_F(Parity, Spawn_pool_exits_with_the_cause_of_its_failure) {
  service app({.processes = 1, .initializer = carom::call(fail_there, "no licence")});
  app.self->monitor(app.pool);
  caf::error reason;
  app.self->receive([&](const caf::down_msg& message) { reason = message.reason; },
                    caf::after(patience) >> [] { ADD_FAILURE() << "it lives"; });
  expect_error(app, reason, carom::actor_errc::restart_freq_exceeded, "no licence");
}

TEST_F(Parity, Spawn_pool_next_to_pools_of_the_application) {
  service app;
  carom::pool pool{{.processes = 1}};
  const auto other = carom::spawn_pool(app.system(), {.processes = 1});
  EXPECT_EQ(app.ask<int>(carom::call(tasks::square, 3)), 9);
  EXPECT_EQ(pool.apply(tasks::square, 4), 16);
  app.self->request(other, patience, carom::call(tasks::square, 5))
      .receive([](int y) { EXPECT_EQ(y, 25); },
               [&](const caf::error& e) { ADD_FAILURE() << app.text_of(e); });
  caf::anon_send_exit(other, caf::exit_reason::kill);
}

TEST_F(Parity, Spawn_pool_answers_run_where_the_application_runs_its_actors) {
  service app;
  const auto ask = [&](caf::event_based_actor* self, int x) {
    self->request(app.pool, patience, carom::call(tasks::square, x))
        .then([self, to = caf::actor_cast<caf::actor>(app.self)](int) {
          self->send(to, carom::runtime::on_loop_thread());
        });
  };
  for (int i = 0; i < 50; ++i) {
    app.system().spawn(ask, i);
    app.self->receive([&](bool on_loop) { EXPECT_FALSE(on_loop); },
                      caf::after(patience) >> [] { ADD_FAILURE(); });
  }
}

TEST_F(Parity, Spawn_pool_ends_with_those_that_fail_and_not_with_those_that_end) {
  service app;
  app.self->monitor(app.pool);
  const auto linked = [&](caf::exit_reason with) {
    return app.system().spawn(
        [pool = app.pool](caf::event_based_actor* self, caf::exit_reason reason) {
          self->link_to(pool);
          self->quit(reason);
        },
        with);
  };
  app.self->wait_for(linked(caf::exit_reason::normal));
  EXPECT_EQ(app.ask<int>(carom::call(tasks::square, 3)), 9);
  linked(caf::exit_reason::unhandled_exception);
  bool down = false;
  app.self->receive([&](const caf::down_msg&) { down = true; },
                    caf::after(patience) >> [] { ADD_FAILURE() << "it lives"; });
  EXPECT_TRUE(down);
}

TEST_F(Parity, Spawn_pool_does_not_know_what_strangers_may_say) {
  service app;
  bool refused = false;
  app.self
      ->request(app.pool, patience, caf::atom_constant<caf::atom("ask")>::value, std::uint64_t{42})
      .receive([](bool) { ADD_FAILURE() << "it was believed"; },
               [&](const caf::error& e) { refused = e == caf::sec::unexpected_message; });
  EXPECT_TRUE(refused);
  EXPECT_EQ(app.ask<int>(carom::call(tasks::square, 3)), 9);
}

TEST_F(Parity, Spawn_pool_request_that_finds_no_descriptor_fails_alone) {
  service app({.processes = 1, .max_pending = 1});
  const auto number = [](const carom::file_descriptor& file) { return file.get() >= 0; };
  const auto call = carom::call(number, carom::file_descriptor(::dup(0)));
  EXPECT_TRUE(app.ask<bool>(call));
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  {
    const rlimit few{carom::test::open_descriptors(::getpid()), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &few);
    std::vector<carom::file_descriptor> filling;
    for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) filling.emplace_back(fd);
    expect_error(app, app.error_of(call), carom::actor_errc::encoding_error, "");
    ::setrlimit(RLIMIT_NOFILE, &before);
  }
  EXPECT_TRUE(app.ask<bool>(call)) << "the one place was given back";
}

TEST_F(Failures, 40_a_crash_in_a_task_is_an_error_to_an_actor) {
  service app;
  for (int i = 0; i < 5; ++i)
    expect_error(app, app.error_of(carom::call(tasks::die_of, SIGSEGV)),
                 carom::actor_errc::worker_lost, "SIGSEGV");
  EXPECT_EQ(app.ask<int>(carom::call(tasks::square, 3)), 9);
}

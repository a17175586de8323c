// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <future>
#include <memory>
#include <stdexcept>

#include "statistics.hpp"

namespace bench {

/// Microseconds for a request and its reply, one at a time. `make(i)` is the request's content.
template <class Make>
double request_round_trip(caf::actor_system& system, const caf::actor& server, std::size_t count,
                          Make make) {
  caf::scoped_actor self{system};
  bool failed = false;
  const auto round_trip = [&](std::size_t i) {
    self->request(server, caf::infinite, make(i))
        .receive([](int) {}, [&](const caf::error&) { failed = true; });
  };
  for (std::size_t i = 0; i < 50; ++i) round_trip(i);
  const stopwatch watch;
  for (std::size_t i = 0; i < count; ++i) round_trip(i);
  if (failed) throw std::runtime_error("a request failed");
  return watch.microseconds() / static_cast<double>(count);
}

/// Replies per second when an actor sends all its requests at once.
template <class Make>
double request_rate(caf::actor_system& system, const caf::actor& server, std::size_t count,
                    Make make) {
  struct progress {
    std::size_t left;
    bool failed = false;
    std::promise<bool> done{};
    void one(bool ok) {
      failed = failed || !ok;
      if (--left == 0) done.set_value(!failed);
    }
  };
  const auto state = std::make_shared<progress>(progress{count});
  const stopwatch watch;
  system.spawn([=](caf::event_based_actor* self) {
    for (std::size_t i = 0; i < count; ++i)
      self->request(server, caf::infinite, make(i))
          .then([=](int) { state->one(true); }, [=](const caf::error&) { state->one(false); });
  });
  if (!state->done.get_future().get()) throw std::runtime_error("a request failed");
  return static_cast<double>(count) / watch.seconds();
}

/// Replies per second to plain messages, sent all at once and not matched with their replies.
template <class Make>
double message_rate(caf::actor_system& system, const caf::actor& server, std::size_t count,
                    Make make) {
  caf::scoped_actor self{system};
  const stopwatch watch;
  for (std::size_t i = 0; i < count; ++i) self->send(server, make(i));
  std::size_t replies = 0;
  self->receive_for(replies, count)([](int) {});
  return static_cast<double>(count) / watch.seconds();
}

}  // namespace bench

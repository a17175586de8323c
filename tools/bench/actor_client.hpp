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

/// What an actor that sends many requests knows of them.
template <class Make>
struct request_stream {
  caf::actor server;
  std::size_t count;
  Make make;
  std::size_t sent = 0;
  std::size_t answered = 0;
  bool failed = false;
  std::promise<bool> succeeded{};
};

template <class Make>
void send_next(caf::event_based_actor* self, const std::shared_ptr<request_stream<Make>>& stream) {
  if (stream->sent == stream->count) return;
  const auto answered = [=](bool well) {
    if (!well) stream->failed = true;
    if (++stream->answered == stream->count) stream->succeeded.set_value(!stream->failed);
    send_next(self, stream);
  };
  self->request(stream->server, caf::infinite, stream->make(stream->sent++))
      .then([=](int) { answered(true); }, [=](const caf::error&) { answered(false); });
}

/// Replies per second to an actor that has many requests under way; not more, as CAF finds a
/// reply's handler by going through all that wait.
template <class Make>
double request_rate(caf::actor_system& system, const caf::actor& server, std::size_t count,
                    Make make) {
  constexpr std::size_t under_way = 1000;
  const auto stream =
      std::make_shared<request_stream<Make>>(request_stream<Make>{server, count, std::move(make)});
  const stopwatch watch;
  system.spawn([=](caf::event_based_actor* self) {
    for (std::size_t i = 0; i < under_way; ++i) send_next(self, stream);
  });
  if (!stream->succeeded.get_future().get()) throw std::runtime_error("a request failed");
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

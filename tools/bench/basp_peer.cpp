// SPDX-License-Identifier: BSL-1.0
// CAF's own way between processes: an actor published on a port of the loopback, reached by BASP.
#include <unistd.h>

#include <caf/actor_system_config.hpp>
#include <caf/io/middleman.hpp>
#include <cstdint>
#include <stdexcept>

#include "actor_client.hpp"
#include "process.hpp"
#include "self_peers.hpp"

namespace bench {

namespace {

class basp_config : public caf::actor_system_config {
 public:
  basp_config() {
    load<caf::io::middleman>();
    set("scheduler.max-threads", 1u);
  }
};

caf::behavior server_actor(caf::event_based_actor*) {
  return {[](int x) { return x * x; },
          [](const std::string& bytes) { return static_cast<int>(bytes.size()); }};
}

/// Serves until `end` is closed; tells its port, 0 if it has none.
void serve_actor(int port_to, int end) {
  basp_config config;
  caf::actor_system system{config};
  const auto port = system.middleman().publish(system.spawn(server_actor), 0, "127.0.0.1");
  const std::uint16_t told = port ? *port : 0;
  if (::write(port_to, &told, sizeof told) != sizeof told) return;
  char byte;
  while (::read(end, &byte, 1) > 0) {
  }
  ::_exit(0);  // the system's destructor would wait for the published actor
}

std::size_t count_of(const std::vector<double>& numbers) {
  return numbers.empty() ? 1 : static_cast<std::size_t>(numbers[0]);
}

}  // namespace

int run_basp_peer() {
  pipe_ends port = make_pipe();
  pipe_ends end = make_pipe();
  // Forked before CAF's threads exist.
  const child_process server = fork_child([&] {
    end.write.reset();
    serve_actor(port.write.get(), end.read.get());
  });
  std::uint16_t number = 0;
  if (!wait_readable(port.read.get(), std::chrono::seconds(20)) ||
      ::read(port.read.get(), &number, sizeof number) != sizeof number || number == 0)
    return serve({});

  basp_config config;
  caf::actor_system system{config};
  const auto remote = system.middleman().remote_actor("127.0.0.1", number);
  if (!remote) return serve({});
  const auto integer = [](std::size_t i) { return static_cast<int>(i & 1023); };
  const std::string megabytes(8 << 20, 'x');
  return serve({
      {"request_rtt",
       [&](const auto& numbers) {
         return request_round_trip(system, *remote, count_of(numbers), integer);
       }},
      {"requests",
       [&](const auto& numbers) {
         return request_rate(system, *remote, count_of(numbers), integer);
       }},
      {"messages",
       [&](const auto& numbers) {
         return message_rate(system, *remote, count_of(numbers), integer);
       }},
      {"argument",
       [&](const auto& numbers) {
         const double each = request_round_trip(system, *remote, count_of(numbers),
                                                [&](std::size_t) { return megabytes; });
         return static_cast<double>(megabytes.size()) / each / 1e3;
       }},
  });
}

}  // namespace bench

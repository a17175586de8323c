// SPDX-License-Identifier: BSL-1.0
#include <caf/actor_system_config.hpp>
#include <caf/atom.hpp>
#include <carom/actor.hpp>

#include "actor_client.hpp"
#include "rows.hpp"
#include "tasks.hpp"

namespace bench {

namespace {

/// As the peer's, with CAF's scheduler that does not wake up when idle.
class host_config : public caf::actor_system_config {
 public:
  host_config() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", 1u);
  }
};

/// A pool in a system of its own; both end with this.
class pool_actor {
 public:
  explicit pool_actor(int workers)
      : system_(config_), actor_(carom::spawn_pool(system_, {.processes = workers})) {}
  ~pool_actor() { caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown); }

  caf::actor_system& system() { return system_; }
  const caf::actor& actor() const { return actor_; }

 private:
  host_config config_;
  caf::actor_system system_;
  caf::actor actor_;
};

carom::packed_call square_call(std::size_t i) {
  return carom::call(square, static_cast<int>(i & 1023));
}

}  // namespace

void actor_request(run& r) {
  pool_actor pool(r.workers());
  const auto each = static_cast<std::size_t>(r.size(5000, 50));
  r.measure("actor_request.rtt", unit::microseconds,
            [&] { return request_round_trip(pool.system(), pool.actor(), each, square_call); },
            {r.limit("pipe ping-pong", "pipe_rtt", r.size(5000, 50)),
             r.against(peer_id::basp, "request_rtt", r.size(2000, 50))});
  const auto all = static_cast<std::size_t>(r.size(200'000, 200));
  r.measure("actor_request.rate", unit::items_per_second,
            [&] { return request_rate(pool.system(), pool.actor(), all, square_call); },
            {r.against(peer_id::basp, "requests", r.size(50'000, 200))});
}

}  // namespace bench

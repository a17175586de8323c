// SPDX-License-Identifier: BSL-1.0
#include <signal.h>

#include <carom/errors.hpp>
#include <carom/pool.hpp>
#include <future>
#include <memory>
#include <stdexcept>

#include "rows.hpp"

namespace bench {

namespace {

void spin() {
  for (volatile bool forever = true; forever;) {
  }
}

/// Microseconds from the kill of a worker that is busy to the error that get() throws.
double time_to_error(carom::pool& pool) {
  const auto begun = std::make_shared<std::promise<pid_t>>();
  const auto lost = pool.apply_async(
      carom::task_options{.on_start = [begun](pid_t pid) { begun->set_value(pid); }}, spin);
  const pid_t worker = begun->get_future().get();
  const stopwatch watch;
  ::kill(worker, SIGKILL);
  try {
    lost.get(std::chrono::seconds(30));
  } catch (const carom::worker_lost&) {
    return watch.microseconds();
  }
  throw std::logic_error("a killed task ended in a value");
}

}  // namespace

void worker_lost(run& r) {
  const target goal = at_most(20'000, unit::microseconds);
  figure median{"worker_lost.p50", unit::microseconds, {}};
  figure late{"worker_lost.p99", unit::microseconds, {}, goal};
  figure worst{"worker_lost.max", unit::microseconds, {}};
  {
    carom::pool pool{{.processes = r.workers(), .restarts = {.max_restarts = 1'000'000}}};
    for (int repetition = 0; repetition < r.repetitions(); ++repetition) {
      samples kills;
      for (int i = 0; i < r.size(200, 5); ++i) kills.add(time_to_error(pool));
      median.values.add(kills.median());
      late.values.add(kills.percentile(99));
      worst.values.add(kills.max());
    }
  }
  // billiard needs its lost_worker_timeout of 10 s for each: its repetitions run side by side.
  comparison billiard{name_of(peer_id::billiard), {}};
  if (r.smoke()) {
    billiard.missing = "takes 10 s, too long for a smoke run";
  } else {
    try {
      const auto request = "worker_lost " + std::to_string(r.repetitions());
      for (const double each : r.peers().get(peer_id::billiard).ask(request))
        billiard.values.add(each);
    } catch (const peer_missing& reason) {
      billiard.missing = reason.what();
    }
  }
  median.comparisons.push_back(billiard);
  for (const figure& each : {median, late, worst}) r.report(each);
}

}  // namespace bench

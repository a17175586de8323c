// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <vector>

#include "rendezvous.hpp"
#include "rows.hpp"
#include "tasks.hpp"

namespace bench {

namespace {

constexpr int many = 64;

double first_result(int workers) {
  const stopwatch watch;
  carom::pool pool{{.processes = workers}};
  pool.apply(noop);
  return watch.microseconds();
}

/// Until each worker has given a result: the tasks wait for each other, so no worker runs two.
double result_of_each(int workers) {
  rendezvous all;
  const stopwatch watch;
  carom::pool pool{{.processes = workers}};
  all.meet(pool, workers);
  return watch.microseconds();
}

/// Until as many tasks as there are workers have ended, whoever ran them.
double as_many_results(int workers) {
  std::vector<carom::async_result<void>> results;
  const stopwatch watch;
  carom::pool pool{{.processes = workers}};
  for (int i = 0; i < workers; ++i) results.push_back(pool.apply_async(noop));
  for (const auto& result : results) result.get();
  return watch.microseconds();
}

}  // namespace

void pool_start(run& r) {
  r.measure("pool_start", unit::microseconds, [&] { return first_result(r.workers()); },
            {r.limit("forks and waits", "forks", r.workers()),
             r.against(peer_id::billiard, "pool_start", r.workers()),
             r.against(peer_id::multiprocessing, "pool_start", r.workers())});
}

void pool_start_64(run& r) {
  r.measure(
      "pool_start_64", unit::microseconds, [&] { return result_of_each(many); },
      {r.limit("64 forks and waits", "forks", many),
       r.against(peer_id::billiard, "pool_start_each", many),
       r.against(peer_id::multiprocessing, "pool_start_each", many)},
      at_most(40'000, unit::microseconds));
  r.measure("pool_start_64.tasks", unit::microseconds, [&] { return as_many_results(many); },
            {r.limit("64 forks and waits", "forks", many),
             r.against(peer_id::billiard, "pool_start_noops", many),
             r.against(peer_id::multiprocessing, "pool_start_noops", many)});
}

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <carom/queue.hpp>
#include <stdexcept>

#include "rows.hpp"
#include "tasks.hpp"

namespace bench {

namespace {

bool produce(carom::queue<int> to, int count) {
  for (int i = 0; i < count; ++i) to.put(i);
  return true;
}

bool consume(carom::queue<int> from, int count) {
  for (int i = 0; i < count; ++i)
    if (from.get() != i) return false;
  return true;
}

/// From one process to another, through the queue's host in a third.
double queue_rate(carom::pool& pool, int count) {
  carom::queue<int> q;
  const stopwatch watch;
  auto consumer = pool.apply_async(consume, q, count);
  auto producer = pool.apply_async(produce, q, count);
  if (!producer.get() || !consumer.get()) throw std::logic_error("a wrong item");
  return count / watch.seconds();
}

}  // namespace

void queue(run& r) {
  carom::pool pool{{.processes = 2}};
  const int count = r.size(500'000, 1000);
  r.measure("queue", unit::items_per_second, [&] { return queue_rate(pool, count); },
            {r.against(peer_id::billiard, "queue", r.size(200'000, 500), at_least_times(2)),
             r.against(peer_id::multiprocessing, "queue", r.size(200'000, 500))});
}

}  // namespace bench

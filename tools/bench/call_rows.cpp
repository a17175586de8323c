// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <numeric>
#include <stdexcept>

#include "rows.hpp"
#include "tasks.hpp"

namespace bench {

namespace {

double round_trip(carom::pool& pool, int count) {
  const stopwatch watch;
  for (int i = 0; i < count; ++i)
    if (pool.apply(square, i) != square(i)) throw std::logic_error("a wrong result");
  return watch.microseconds() / count;
}

double task_rate(carom::pool& pool, int count) {
  std::vector<carom::async_result<int>> results;
  results.reserve(static_cast<std::size_t>(count));
  const stopwatch watch;
  for (int i = 0; i < count; ++i) results.push_back(pool.apply_async(square, i));
  for (int i = 0; i < count; ++i)
    if (results[static_cast<std::size_t>(i)].get() != square(i))
      throw std::logic_error("a wrong result");
  return count / watch.seconds();
}

double item_rate(carom::pool& pool, int count, std::size_t chunk) {
  std::vector<int> items(static_cast<std::size_t>(count));
  std::iota(items.begin(), items.end(), 0);
  const stopwatch watch;
  const std::vector<int> squares = pool.map(square, items, chunk);
  const double rate = count / watch.seconds();
  if (squares.size() != items.size() || squares.back() != square(items.back()))
    throw std::logic_error("a wrong result");
  return rate;
}

}  // namespace

void apply_rtt(run& r) {
  carom::pool pool{{.processes = r.workers()}};
  const int count = r.size(5000, 50);
  r.measure("apply_rtt", unit::microseconds, [&] { return round_trip(pool, count); },
            {r.limit("pipe ping-pong", "pipe_rtt", count, at_most_times(1.8)),
             r.against(peer_id::billiard, "apply_rtt", r.size(2000, 50), times_faster(3)),
             r.against(peer_id::multiprocessing, "apply_rtt", r.size(2000, 50)),
             r.against(peer_id::basp, "request_rtt", r.size(2000, 50))});
}

void apply_async(run& r) {
  carom::pool pool{{.processes = r.workers()}};
  const int count = r.size(500'000, 1000);
  r.measure("apply_async", unit::items_per_second, [&] { return task_rate(pool, count); },
            {r.limit("message_queue loop", "message_queue", count, at_least_times(1)),
             r.against(peer_id::billiard, "apply_async", r.size(20'000, 100), at_least_times(80)),
             r.against(peer_id::multiprocessing, "apply_async", r.size(20'000, 100)),
             r.against(peer_id::basp, "messages", r.size(50'000, 100))});
}

void map(run& r) {
  carom::pool pool{{.processes = r.workers()}};
  const int count = r.size(2'000'000, 2000);
  r.measure("map", unit::items_per_second, [&] { return item_rate(pool, count, 0); },
            {r.against(peer_id::multiprocessing, "map", count, at_least_times(20)),
             r.against(peer_id::billiard, "map", count)});
}

void map_chunk1(run& r) {
  carom::pool pool{{.processes = r.workers()}};
  const int count = r.size(500'000, 500);
  r.measure(
      "map_chunk1", unit::items_per_second, [&] { return item_rate(pool, count, 1); },
      {r.against(peer_id::multiprocessing, "map_chunk1", r.size(20'000, 50), at_least_times(50)),
       r.against(peer_id::billiard, "map_chunk1", r.size(2000, 20))});
}

}  // namespace bench

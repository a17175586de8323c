// SPDX-License-Identifier: BSL-1.0
#include <unistd.h>

#include <carom/errors.hpp>
#include <carom/pool.hpp>
#include <numeric>
#include <stdexcept>

#include "rows.hpp"
#include "tasks.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;

void sleep_for_ever() {
  for (;;) ::pause();
}

/// How late limits fire, in microseconds, seen by the task's clock. Throws if one fires early.
samples lateness(carom::pool& pool, int count, std::chrono::milliseconds limit) {
  std::vector<carom::async_result<void>> results;
  for (int i = 0; i < count; ++i)
    results.push_back(pool.apply_async({.time_limit = limit}, sleep_for_ever));
  samples late;
  for (const auto& each : results) {
    try {
      each.get(60s);
      throw std::logic_error("a task over its limit ended in a value");
    } catch (const carom::time_limit_exceeded& e) {
      if (e.run_time() < limit) throw std::logic_error("a limit fired early");
      late.add(std::chrono::duration<double, std::micro>(e.run_time() - limit).count());
    }
  }
  return late;
}

double limited_rate(carom::pool& pool, int count, const carom::task_options& options) {
  std::vector<carom::async_result<int>> results;
  results.reserve(static_cast<std::size_t>(count));
  const stopwatch watch;
  for (int i = 0; i < count; ++i) results.push_back(pool.apply_async(options, square, i));
  for (int i = 0; i < count; ++i)
    if (results[static_cast<std::size_t>(i)].get() != square(i))
      throw std::logic_error("a wrong result");
  return count / watch.seconds();
}

double limited_round_trip(carom::pool& pool, int count, const carom::task_options& options) {
  const stopwatch watch;
  for (int i = 0; i < count; ++i)
    if (pool.apply(options, square, i) != square(i)) throw std::logic_error("a wrong result");
  return watch.microseconds() / count;
}

double limited_map(carom::pool& pool, const carom::task_options& options, int count) {
  std::vector<int> items(static_cast<std::size_t>(count));
  std::iota(items.begin(), items.end(), 0);
  const stopwatch watch;
  if (pool.map(options, square, items).back() != square(items.back()))
    throw std::logic_error("a wrong result");
  return count / watch.seconds();
}

}  // namespace

void limits(run& r) {
  const int workers = r.size(32, 4);
  const int count = r.size(1000, 8);
  figure median{"limits.late_p50", unit::microseconds, {}};
  figure late{"limits.late_p99", unit::microseconds, {}, at_most(5'000, unit::microseconds)};
  figure worst{"limits.late_max", unit::microseconds, {}};
  carom::pool pool{{.processes = workers}};
  for (int i = 0; i < workers; ++i) pool.apply(noop);
  for (int repetition = 0; repetition < std::min(r.repetitions(), 3); ++repetition) {
    const samples all = lateness(pool, count, r.smoke() ? 20ms : 200ms);
    median.values.add(all.median());
    late.values.add(all.percentile(99));
    worst.values.add(all.max());
  }
  for (const figure& each : {median, late, worst}) r.report(each);
}

void apply_limited(run& r) {
  carom::pool pool{{.processes = r.workers()}};
  const carom::task_options limited{.time_limit = 10min, .soft_time_limit = 5min};
  const int count = r.size(500'000, 1000);
  r.measure("apply_limited.async", unit::items_per_second,
            [&] { return limited_rate(pool, count, limited); },
            {contender{"the same without limits", [&] { return limited_rate(pool, count, {}); },
                       at_least_times(0.9)}});
  const int trips = r.size(5000, 50);
  r.measure("apply_limited.rtt", unit::microseconds,
            [&] { return limited_round_trip(pool, trips, limited); },
            {contender{"the same without limits",
                       [&] { return limited_round_trip(pool, trips, {}); }, at_most_times(1.1)}});
}

void map_limited(run& r) {
  carom::pool pool{{.processes = r.workers()}};
  const int count = r.size(2'000'000, 2000);
  r.measure("map_limited", unit::items_per_second,
            [&] { return limited_map(pool, {.time_limit = 10min}, count); },
            {contender{"the same without limits", [&] { return limited_map(pool, {}, count); }},
             r.against(peer_id::multiprocessing, "map", count)});
}

void recycle(run& r) {
  carom::pool pool{{.processes = r.workers(), .max_tasks_per_child = 1}};
  const int count = r.size(4000, 20);
  r.measure(
      "recycle", unit::items_per_second, [&] { return limited_rate(pool, count, {}); }, {},
      target{target::sense::at_least, 2000, "≥ 2.00 k/s"});
}

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#include <unistd.h>

#include <carom/pool.hpp>
#include <deque>
#include <memory>
#include <stdexcept>

#include "pool_processes.hpp"
#include "proc_files.hpp"
#include "rows.hpp"
#include "tasks.hpp"

namespace bench {

namespace {

/// Tasks under way at once: more would measure the memory of the queue.
constexpr std::size_t window = 10'000;

/// Microseconds per task, when `count` tasks pass through the pool.
double time_per_task(carom::pool& pool, int count) {
  std::deque<std::pair<int, carom::async_result<int>>> under_way;
  const auto finish_one = [&] {
    if (under_way.front().second.get() != square(under_way.front().first))
      throw std::logic_error("a wrong result");
    under_way.pop_front();
  };
  const stopwatch watch;
  for (int i = 0; i < count; ++i) {
    if (under_way.size() == window) finish_one();
    under_way.emplace_back(i, pool.apply_async(square, i));
  }
  while (!under_way.empty()) finish_one();
  return watch.microseconds() / count;
}

/// Small numbers of tasks again and again, so that each value stands for enough time.
double time_per_task_repeated(carom::pool& pool, int count) {
  const int rounds = std::max(1, 100'000 / count);
  double sum = 0;
  for (int i = 0; i < rounds; ++i) sum += time_per_task(pool, count);
  return sum / rounds;
}

/// Reports `large` against `small`, from the values of the same repetitions.
void report_growth(run& r, const std::string& name, const figure& large, const figure& small,
                   const target& goal) {
  r.report({name, large.measure, large.values, {}, {{small.name, small.values, goal}}});
}

/// The figures of one unit, each repetition of all after the other.
std::vector<figure> measure_together(run& r, const std::vector<std::string>& names,
                                     const std::function<double(std::size_t)>& measure) {
  std::vector<figure> figures;
  for (const std::string& name : names) figures.push_back({name, unit::microseconds, {}});
  for (int repetition = r.smoke() ? 0 : -1; repetition < r.repetitions(); ++repetition)
    for (std::size_t i = 0; i < figures.size(); ++i) {
      const double value = measure(i);
      if (repetition >= 0) figures[i].values.add(value);
    }
  return figures;
}

void over_tasks(run& r) {
  const pool_processes processes;
  carom::pool pool{processes.options(r.workers())};
  const auto memory = [&] {
    double sum = resident_size(::getpid());
    for (const pid_t worker : processes.workers(r.workers())) sum += resident_size(worker);
    return sum;
  };
  std::vector<int> counts{1000, 10'000, 100'000, 1'000'000};
  if (r.ten_million()) counts.push_back(10'000'000);
  if (r.smoke()) counts = {100, 1000, 10'000};
  std::vector<std::string> names;
  for (const int count : counts) names.push_back("scaling.tasks_" + std::to_string(count));

  figure growth{"scaling.memory_growth", unit::bytes, {}, at_most(1 << 20, unit::bytes)};
  double before = 0;
  const auto figures = measure_together(r, names, [&](std::size_t i) {
    if (i + 1 == counts.size()) before = memory();
    const double time =
        r.smoke() ? time_per_task(pool, counts[i]) : time_per_task_repeated(pool, counts[i]);
    if (i + 1 == counts.size()) growth.values.add(memory() - before);
    return time;
  });
  r.report(figures.front());
  for (std::size_t i = 1; i < figures.size(); ++i)
    report_growth(r, figures[i].name, figures[i], figures.front(), at_most_times(1.25));
  r.report(growth);
}

void over_workers(run& r) {
  const std::vector<int> workers{2, 64, 256};
  std::vector<std::string> names;
  std::vector<std::unique_ptr<carom::pool>> pools;
  for (const int count : workers) {
    names.push_back("scaling.workers_" + std::to_string(count));
    pools.push_back(std::make_unique<carom::pool>(carom::pool_options{.processes = count}));
  }
  const int tasks = r.size(500'000, 2000);
  const auto figures =
      measure_together(r, names, [&](std::size_t i) { return time_per_task(*pools[i], tasks); });
  r.report(figures[0]);
  report_growth(r, figures[1].name, figures[1], figures[0], at_most_times(2));
  report_growth(r, figures[2].name, figures[2], figures[0], at_most_times(4));
}

}  // namespace

void scaling(run& r) {
  over_tasks(r);
  over_workers(r);
}

}  // namespace bench

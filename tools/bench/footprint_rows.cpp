// SPDX-License-Identifier: BSL-1.0
#include <malloc.h>
#include <unistd.h>

#include <carom/pool.hpp>
#include <thread>

#include "pool_processes.hpp"
#include "proc_files.hpp"
#include "rendezvous.hpp"
#include "rows.hpp"
#include "tasks.hpp"

namespace bench {

namespace {

constexpr int many = 64;

/// Of an idle worker that has run tasks.
double worker_memory() {
  const pool_processes processes;
  carom::pool pool{processes.options(many)};
  rendezvous().meet(pool, many);
  for (int i = 0; i < 10 * many; ++i) pool.apply(square, i);
  double sum = 0;
  for (const pid_t worker : processes.workers(many)) sum += proportional_size(worker);
  return sum / many;
}

/// Growth of this process for each task, handle included, queued while no worker takes any.
double queued_task_memory(int workers, int count) {
  carom::pool pool{{.processes = workers}};
  rendezvous blockers;
  blockers.submit(pool, workers);
  blockers.wait();
  ::malloc_trim(0);  // what earlier repetitions freed must not serve this one
  const double before = resident_size(::getpid());
  std::vector<carom::async_result<int>> results;
  results.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) results.push_back(pool.apply_async(square, i));
  const double grown = resident_size(::getpid()) - before;
  blockers.release();
  for (const auto& result : results) result.wait();
  return grown / count;
}

}  // namespace

void memory(run& r) {
  r.measure("memory.worker", unit::bytes, worker_memory,
            {r.against(peer_id::billiard, "memory", many),
             r.against(peer_id::multiprocessing, "memory", many)},
            at_most(1 << 20, unit::bytes));
  const int count = r.size(1'000'000, 10'000);
  r.measure(
      "memory.queued_task", unit::bytes, [&] { return queued_task_memory(r.workers(), count); }, {},
      at_most(400, unit::bytes));
}

void idle(run& r) {
  const auto window = std::chrono::milliseconds(r.size(3000, 200));
  const pool_processes processes;
  carom::pool pool{processes.options(r.workers())};
  for (int i = 0; i < 100; ++i) pool.apply(square, i);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // what tasks set off has ended
  const auto switches = [&, all = processes.all(r.workers())] {
    // This thread's own waiting is not the pool's.
    std::uint64_t sum = context_switches(::getpid(), ::gettid());
    for (const pid_t each : all) sum += context_switches(each);
    return sum;
  };
  const auto measure = [&] {
    const stopwatch watch;
    const std::uint64_t before = switches();
    std::this_thread::sleep_for(window);
    return static_cast<double>(switches() - before) / watch.seconds();
  };
  const int milliseconds = static_cast<int>(window.count());
  r.measure("idle", unit::wakeups_per_second, measure,
            {r.against(peer_id::billiard, "idle", milliseconds),
             r.against(peer_id::multiprocessing, "idle", milliseconds)},
            at_most(0, unit::wakeups_per_second));
}

}  // namespace bench

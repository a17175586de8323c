// SPDX-License-Identifier: BSL-1.0
#include <carom/process.hpp>
#include <stdexcept>

#include "rows.hpp"
#include "tasks.hpp"

namespace bench {

namespace {

/// Microseconds for each of so many, one after the other.
double start_and_join(int count, carom::start_method method) {
  const stopwatch watch;
  for (int i = 0; i < count; ++i) {
    carom::process one({.start_method = method}, noop);
    one.start();
    one.join();
    if (one.exitcode() != 0) throw std::runtime_error("a process failed");
  }
  return watch.microseconds() / count;
}

}  // namespace

void process_start(run& r) {
  const int count = r.size(200, 3);
  const auto with = [count](carom::start_method method) {
    return [=] { return start_and_join(count, method); };
  };
  r.measure("process_start", unit::microseconds, with(carom::start_method::forkserver),
            {r.limit("fork and wait", "fork_wait", count, at_most_times(3)),
             r.against(peer_id::billiard, "process_start", r.size(50, 3)),
             r.against(peer_id::multiprocessing, "process_start", r.size(50, 3))});
  r.measure("process_start.fork", unit::microseconds, with(carom::start_method::fork),
            {r.limit("fork and wait", "fork_wait", count)});
  r.measure("process_start.spawn", unit::microseconds, with(carom::start_method::spawn),
            {r.limit("fork and wait", "fork_wait", count)});
}

}  // namespace bench

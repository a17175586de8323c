// SPDX-License-Identifier: BSL-1.0
#include <carom/sync.hpp>

#include "rows.hpp"
#include "statistics.hpp"

namespace bench {

namespace {

/// Microseconds for locking and unlocking what nobody else wants.
template <class Lock>
double uncontended(Lock& lock, int count) {
  const stopwatch watch;
  for (int i = 0; i < count; ++i) {
    lock.lock();
    lock.unlock();
  }
  return watch.microseconds() / count;
}

}  // namespace

void lock(run& r) {
  const int count = r.size(2'000'000, 1'000);
  const int peers_count = r.size(200'000, 1'000);
  carom::lock lock;
  r.measure(
      "lock", unit::microseconds, [&] { return uncontended(lock, count); },
      {r.limit("pthread mutex, shared", "mutex", count),
       r.against(peer_id::billiard, "lock", peers_count),
       r.against(peer_id::multiprocessing, "lock", peers_count)},
      at_most(0.040, unit::microseconds));
  carom::rlock rlock;
  r.measure("lock.rlock", unit::microseconds, [&] { return uncontended(rlock, count); },
            {r.limit("pthread mutex, shared", "mutex", count),
             r.against(peer_id::billiard, "rlock", peers_count),
             r.against(peer_id::multiprocessing, "rlock", peers_count)});
  carom::semaphore semaphore(1);
  r.measure("lock.semaphore", unit::microseconds, [&] { return uncontended(semaphore, count); },
            {r.limit("pthread mutex, shared", "mutex", count),
             r.against(peer_id::billiard, "semaphore", peers_count),
             r.against(peer_id::multiprocessing, "semaphore", peers_count)});
}

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#include "rows.hpp"

#include <algorithm>

namespace bench {

namespace {

constexpr row rows[] = {
    {"apply_rtt", "one small task there and back", apply_rtt},
    {"apply_async", "small tasks a second, each result fetched", apply_async},
    {"map", "items a second in default chunks", map},
    {"map_chunk1", "items a second in chunks of one", map_chunk1},
    {"arg_8mib", "bytes a second as arguments of 8 MiB", arg_8mib},
    {"echo_8mib", "bytes a second as arguments of 8 MiB that come back", echo_8mib},
    {"actor_request", "requests of a CAF actor to a pool", actor_request},
    {"queue", "small items a second from one process to another", queue},
    {"pool_start", "a new pool and its first result", pool_start},
    {"pool_start_64", "a new pool of 64 and a result of each worker", pool_start_64},
    {"process_start", "a process that does nothing, started and joined", process_start},
    {"worker_lost", "from SIGKILL of a busy worker to the error in get()", worker_lost},
    {"limits", "how late time limits fire, 1,000 of them over 32 workers", limits},
    {"apply_limited", "small tasks with both time limits armed", apply_limited},
    {"map_limited", "items a second in default chunks, each with a time limit", map_limited},
    {"recycle", "tasks a second when each has a worker of its own", recycle},
    {"lock", "locking and unlocking what nobody else wants", lock},
    {"connection", "messages and bytes between two processes", connection},
    {"memory", "memory of an idle worker and of a queued task", memory},
    {"idle", "wake-ups a second of an idle pool", idle},
    {"simple_queue", "items a second through a simple_queue, from process to process",
     simple_queue},
    {"shared_buffer", "a shared_buffer of 1 GiB to a task, beside one of 8 MiB", shared_buffer},
    {"scaling", "time per task over numbers of tasks and of workers", scaling},
};

}  // namespace

std::span<const row> all_rows() { return rows; }

const row* find_row(std::string_view name) {
  const auto found =
      std::find_if(std::begin(rows), std::end(rows), [&](const row& r) { return r.name == name; });
  return found == std::end(rows) ? nullptr : found;
}

}  // namespace bench

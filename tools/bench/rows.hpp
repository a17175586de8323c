// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <span>
#include <string_view>

#include "bench.hpp"

namespace bench {

/// A row of the performance table: one or more figures that belong together.
struct row {
  const char* name;
  const char* summary;
  void (*measure)(run&);
};

/// All rows, in the order in which they run.
std::span<const row> all_rows();
/// Null if there is none of this name.
const row* find_row(std::string_view name);

// call_rows.cpp
void apply_rtt(run&);
void apply_async(run&);
void map(run&);
void map_chunk1(run&);
// payload_rows.cpp
void arg_8mib(run&);
void echo_8mib(run&);
// actor_rows.cpp
void actor_request(run&);
// queue_rows.cpp
void queue(run&);
// start_rows.cpp
void pool_start(run&);
void pool_start_64(run&);
// process_rows.cpp
void process_start(run&);
// loss_rows.cpp
void worker_lost(run&);
// limit_rows.cpp
void limits(run&);
void apply_limited(run&);
void map_limited(run&);
void recycle(run&);
// lock_rows.cpp
void lock(run&);
// connection_rows.cpp
void connection(run&);
// footprint_rows.cpp
void memory(run&);
void idle(run&);
// shared_rows.cpp
void simple_queue(run&);
void shared_buffer(run&);
// scaling_rows.cpp
void scaling(run&);

}  // namespace bench

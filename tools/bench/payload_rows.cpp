// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <stdexcept>
#include <string>

#include "rows.hpp"

namespace bench {

namespace {

constexpr std::size_t payload_size = 8 << 20;

std::size_t length(const std::string& bytes) { return bytes.size(); }

std::string echo(std::string bytes) { return bytes; }

double gigabytes_per_second(int count, const stopwatch& watch) {
  return count * static_cast<double>(payload_size) / watch.seconds() / 1e9;
}

double argument_rate(carom::pool& pool, int count) {
  const std::string bytes(payload_size, 'x');
  const stopwatch watch;
  for (int i = 0; i < count; ++i)
    if (pool.apply(length, bytes) != bytes.size()) throw std::logic_error("a wrong result");
  return gigabytes_per_second(count, watch);
}

double echo_rate(carom::pool& pool, int count) {
  const std::string bytes(payload_size, 'x');
  const stopwatch watch;
  for (int i = 0; i < count; ++i)
    if (pool.apply(echo, bytes).size() != bytes.size()) throw std::logic_error("a wrong result");
  return gigabytes_per_second(count, watch);
}

}  // namespace

void arg_8mib(run& r) {
  carom::pool pool{{.processes = r.workers()}};
  const int count = r.size(40, 2);
  r.measure("arg_8mib", unit::gigabytes_per_second, [&] { return argument_rate(pool, count); },
            {r.limit("memcpy", "memcpy", count),
             r.against(peer_id::billiard, "argument", r.size(20, 2), at_least_times(5)),
             r.against(peer_id::multiprocessing, "argument", r.size(20, 2)),
             r.against(peer_id::basp, "argument", r.size(20, 2))});
}

void echo_8mib(run& r) {
  carom::pool pool{{.processes = r.workers()}};
  const int count = r.size(40, 2);
  r.measure("echo_8mib", unit::gigabytes_per_second, [&] { return echo_rate(pool, count); },
            {r.limit("memcpy", "memcpy", count),
             r.against(peer_id::billiard, "echo", r.size(15, 2), at_least_times(8)),
             r.against(peer_id::multiprocessing, "echo", r.size(15, 2))});
}

}  // namespace bench

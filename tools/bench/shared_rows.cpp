// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <carom/shared_buffer.hpp>
#include <carom/simple_queue.hpp>
#include <stdexcept>

#include "rows.hpp"

namespace bench {

namespace {

void produce(carom::simple_queue<int> queue, int count) {
  for (int i = 0; i < count; ++i) queue.put(i);
}

/// Items a second from one process to another.
double queue_rate(carom::pool& pool, int count) {
  carom::simple_queue<int> queue;
  const auto producer = pool.apply_async(produce, queue, count);
  if (queue.get() != 0) throw std::logic_error("a wrong item");
  const stopwatch watch;
  for (int i = 1; i < count; ++i)
    if (queue.get() != i) throw std::logic_error("a wrong item");
  const double seconds = watch.seconds();
  producer.get();
  return count / seconds;
}

std::size_t first_byte(const carom::shared_buffer& buffer) {
  return std::to_integer<std::size_t>(buffer.bytes().front());
}

/// Microseconds to pass a buffer to a task that looks at one byte of it.
double pass_time(carom::pool& pool, const carom::shared_buffer& buffer, int count) {
  const stopwatch watch;
  for (int i = 0; i < count; ++i)
    if (pool.apply(first_byte, buffer) != 0) throw std::logic_error("a wrong byte");
  return watch.microseconds() / count;
}

}  // namespace

void simple_queue(run& r) {
  carom::pool pool{{.processes = 1}};
  const int count = r.size(2'000'000, 1000);
  const int for_python = r.size(200'000, 100);
  contender simple = r.against(peer_id::billiard, "simple_queue", for_python, at_least_times(10));
  simple.name = "billiard SimpleQueue";
  contender plain = r.against(peer_id::billiard, "feeder_queue", for_python, at_least_times(10));
  plain.name = "billiard Queue";
  contender other = r.against(peer_id::multiprocessing, "simple_queue", for_python);
  other.name = "multiprocessing SimpleQueue";
  r.measure("simple_queue", unit::items_per_second, [&] { return queue_rate(pool, count); },
            {simple, plain, other,
             r.limit("message_queue loop", "message_queue", r.size(200'000, 1000))});
}

void shared_buffer(run& r) {
  carom::pool pool{{.processes = 1}};
  carom::shared_buffer small(std::size_t{8} << 20), large(std::size_t{1} << 30);
  const int count = r.size(10'000, 20);
  // The peer is the small buffer: the same within 10 %.
  r.measure("shared_buffer", unit::microseconds, [&] { return pass_time(pool, large, count); },
            {{"8 MiB", [&] { return pass_time(pool, small, count); }, at_most_times(1.1)},
             r.limit("pipe ping-pong", "pipe_rtt", count)});
}

}  // namespace bench

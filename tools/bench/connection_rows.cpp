// SPDX-License-Identifier: BSL-1.0
#include <carom/connection.hpp>
#include <carom/pool.hpp>
#include <stdexcept>
#include <vector>

#include "rows.hpp"

namespace bench {

namespace {

constexpr std::size_t payload_size = 8 << 20;

// The other end, in a worker.
int add_up(carom::connection other, int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += other.recv<int>();
  return sum;
}

void send_payloads(carom::connection other, int count) {
  const std::vector<std::byte> bytes(payload_size, std::byte{'x'});
  for (int i = 0; i < count; ++i) other.send_bytes(bytes);
}

void echo(carom::connection other, int count) {
  for (int i = 0; i < count; ++i) other.send(other.recv<int>());
}

double round_trip(carom::pool& pool, int count) {
  auto [near, far] = carom::pipe();
  const auto done = pool.apply_async(echo, std::move(far), count + 100);
  const auto once = [&near = near](int i) {
    near.send(i);
    if (near.recv<int>() != i) throw std::logic_error("a wrong echo");
  };
  for (int i = 0; i < 100; ++i) once(i);
  const stopwatch watch;
  for (int i = 0; i < count; ++i) once(i);
  const double passed = watch.microseconds() / count;
  done.get();
  return passed;
}

double message_rate(carom::pool& pool, int count) {
  auto [near, far] = carom::pipe();
  const auto done = pool.apply_async(add_up, std::move(far), count);
  const stopwatch watch;
  for (int i = 0; i < count; ++i) near.send(1);
  if (done.get() != count) throw std::logic_error("a wrong sum");
  return count / watch.seconds();
}

double byte_rate(carom::pool& pool, int count, bool into_buffer) {
  auto [near, far] = carom::pipe();
  std::vector<std::byte> buffer(payload_size);
  const auto done = pool.apply_async(send_payloads, std::move(far), count + 1);
  near.recv_bytes_into(buffer);  // it has begun
  const stopwatch watch;
  for (int i = 0; i < count; ++i) {
    const std::size_t size = into_buffer ? near.recv_bytes_into(buffer) : near.recv_bytes().size();
    if (size != payload_size) throw std::logic_error("a wrong size");
  }
  const double rate = count * static_cast<double>(payload_size) / watch.seconds() / 1e9;
  done.get();
  return rate;
}

}  // namespace

void connection(run& r) {
  carom::pool pool{{.processes = 1}};
  const int trips = r.size(5000, 50), messages = r.size(200'000, 100), payloads = r.size(100, 2);
  r.measure("connection.rtt", unit::microseconds, [&] { return round_trip(pool, trips); },
            {r.limit("socketpair ping-pong", "socketpair_rtt", trips),
             r.against(peer_id::billiard, "connection_rtt", trips),
             r.against(peer_id::multiprocessing, "connection_rtt", trips)});
  r.measure("connection.messages", unit::items_per_second,
            [&] { return message_rate(pool, messages); },
            {r.limit("socketpair, 28 bytes a write", "socketpair_messages", messages),
             r.against(peer_id::billiard, "connection_messages", r.size(50'000, 50)),
             r.against(peer_id::multiprocessing, "connection_messages", r.size(50'000, 50))});
  const auto contenders = [&] {
    return std::vector<contender>{
        r.limit("socketpair", "socketpair_bytes", payloads),
        r.against(peer_id::billiard, "connection_bytes", r.size(30, 2)),
        r.against(peer_id::multiprocessing, "connection_bytes", r.size(30, 2))};
  };
  r.measure(
      "connection.bytes_into", unit::gigabytes_per_second,
      [&] { return byte_rate(pool, payloads, true); }, contenders());
  r.measure(
      "connection.bytes", unit::gigabytes_per_second,
      [&] { return byte_rate(pool, payloads, false); }, contenders());
}

}  // namespace bench

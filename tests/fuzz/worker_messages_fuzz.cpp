// SPDX-License-Identifier: BSL-1.0
#include "serialization/worker_messages.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

// Bytes as a message between host and worker, read as each kind of message that there is. What can
// be read must be the same when it is written and read again.

namespace {

using namespace carom::serialization;

template <class Fields>
void read_as(std::span<const std::byte> message) {
  try {
    const auto fields = unpack_message<Fields>(message);
    const auto written = pack_message(worker_message_kind::setup, fields);
    const auto again = pack_message(worker_message_kind::setup, unpack_message<Fields>(written));
    if (written != again) std::abort();
  } catch (const carom::encoding_error&) {
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  if (seed % 256 != 0) return LLVMFuzzerMutate(data, size, max_size);
  setup_message whole{.origin = {.name = "pool-1", .parent = 4},
                      .worker_id = 7,
                      .index = 1,
                      .pool_name = "a pool",
                      .log_level = 2};
  whole.modules.resize(seed / 256 % 3, {"0123456789abcdef", "/usr/lib/library.so"});
  whole.initializer_arguments.resize(seed / 1024 % 100);
  whole.origin.after_fork.resize(seed / 4096 % 3);
  const auto packed = pack_message(worker_message_kind::setup, whole);
  if (packed.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::ranges::copy(packed, reinterpret_cast<std::byte*>(data));
  return packed.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto message = std::as_bytes(std::span{data, size});
  (void)kind_of(message);
  read_as<setup_message>(message);
  read_as<segment_message>(message);
  read_as<ticket_message>(message);
  read_as<need_segment_message>(message);
  read_as<log_message>(message);
  read_as<module_record>(message);
  read_as<process_message>(message);
  read_as<exec_message>(message);
  return 0;
}

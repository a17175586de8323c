// SPDX-License-Identifier: BSL-1.0
#include "serialization/queue_messages.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>

// Bytes as a message between a queue and its client: what can be read is the same when written.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto message = carom::serialization::unpack_queue_message(bytes);
  if (!message) return 0;
  const auto written = carom::serialization::pack_queue_message(*message);
  if (written.size() != size || !std::equal(written.begin(), written.end(), bytes.begin()))
    std::abort();
  return 0;
}

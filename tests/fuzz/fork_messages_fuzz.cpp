// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "serialization/fork_messages.hpp"

// Any bytes: decoded or refused, and what is decoded is what its encoding says, byte for byte.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace carom::serialization;
  const std::span input{reinterpret_cast<const std::byte*>(data), size};
  const auto decoded = decode_fork_message(input);
  if (!decoded) return 0;
  const fork_frame again = encode(*decoded);
  if (!std::ranges::equal(again.bytes(), input)) std::abort();
  if (decode_fork_message(again.bytes()) != decoded) std::abort();
  return 0;
}

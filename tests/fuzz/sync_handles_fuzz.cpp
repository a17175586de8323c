// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <tuple>

// Bytes as a handle of each kind, with descriptors of all kinds in reach. What can be read names a
// primitive that works.

namespace {

using namespace carom;
using namespace carom::detail;

void nothing() {}

/// One primitive of each kind, and their descriptors under the tickets that these bytes name.
struct samples {
  std::tuple<exclusive_lock, rlock, semaphore, bounded_semaphore, condition, event, barrier> all{
      {}, {}, semaphore(3), bounded_semaphore(3), {}, {}, barrier(1, call(nothing))};
  blob packed;

  samples() {
    std::apply([&](const auto&... each) { encode(packed, each...); }, all);
  }
};

samples& known() {
  static samples one;
  return one;
}

template <class Handle, class Use>
void read_as(std::span<const std::byte> bytes, const Use& use) {
  try {
    auto [handle] = decode<Handle>(bytes);
    use(handle);
  } catch (const carom::error&) {
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  // Tickets are not to be guessed: now and then it gets some.
  const auto bytes = known().packed.bytes();
  const std::size_t from = seed / 64 % bytes.size();
  if (seed % 64 != 0 || bytes.size() - from > max_size)
    return LLVMFuzzerMutate(data, size, max_size);
  std::ranges::copy(bytes.subspan(from), reinterpret_cast<std::byte*>(data));
  return std::min<std::size_t>(bytes.size() - from, 1 + seed / 4096 % 64);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span{data, size});
  const descriptor_scope in_reach(known().packed.find_descriptors());
  const auto lock_once = [](auto& lock) {
    if (!lock.try_lock()) std::abort();
    lock.unlock();
  };
  read_as<exclusive_lock>(bytes, lock_once);
  read_as<rlock>(bytes, lock_once);
  read_as<semaphore>(bytes, lock_once);
  read_as<bounded_semaphore>(bytes, lock_once);
  read_as<condition>(bytes, lock_once);
  read_as<event>(bytes, [](event& one) { one.set(); });
  read_as<barrier>(bytes, [](barrier& one) { one.n_waiting(); });
  return 0;
}

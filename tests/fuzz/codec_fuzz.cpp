// SPDX-License-Identifier: BSL-1.0
// The samples are part of the target: a target is one source.
#include "tests/serialization/samples.cpp"

#include <algorithm>
#include <cstdint>

// The first byte picks a type, the rest are its bytes: one message, or items one after the other,
// read with their lengths before them and without.
// What decodes must encode again, and what was encoded must decode. Now and then the mutator starts
// anew from a sample of the type.

namespace {

using travelling::sample_types;

void read_items(const travelling::sample_type& type, std::span<const std::byte> bytes) {
  carom::detail::item_reader values{bytes};
  for (int i = 0; i < 100 && !values.empty(); ++i) try {
      (void)type.next_value(values);
    } catch (const carom::encoding_error&) {  // of that one alone
    }
  carom::detail::item_reader reader{bytes};
  for (int i = 0; i < 100 && !reader.empty(); ++i) type.skip(reader);
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  if (seed % 256 != 0) return LLVMFuzzerMutate(data, size, max_size);
  const std::size_t pick = seed / 256 % sample_types().size();
  carom::detail::blob sample;
  const bool several = seed / 256 / sample_types().size() % 2 != 0;
  for (int i = 0; i < 2 && several; ++i) sample_types()[pick].append(sample);
  if (!several) sample_types()[pick].encode(sample);
  if (sample.size() >= max_size) return LLVMFuzzerMutate(data, size, max_size);
  data[0] = static_cast<std::uint8_t>(several ? 128 + pick : pick);
  std::ranges::copy(sample.bytes(), reinterpret_cast<std::byte*>(data + 1));
  return sample.size() + 1;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || data[0] % 128 >= sample_types().size()) return 0;
  const auto& type = sample_types()[data[0] % 128];
  const auto bytes = std::as_bytes(std::span{data, size}).subspan(1);
  try {
    data[0] < 128 ? type.round_trip(bytes) : read_items(type, bytes);
  } catch (const carom::encoding_error&) {
  }
  return 0;
}

// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/authentication.hpp"
#include "serialization/connection_frame.hpp"

// Bytes as what comes over a socket: as a stream of messages, taken apart in pieces of any size,
// and as the messages of an authentication, from a stranger and from an honest side whose bytes are
// changed on the way.

namespace {

using namespace carom;
using carom::runtime::handshake;
using carom::serialization::frame_header;
using carom::serialization::frame_reader;
using stage = frame_reader::stage;

void must(bool holds) {
  if (!holds) std::abort();
}

/// What a receiver saw of a stream.
struct seen {
  std::vector<std::vector<std::byte>> bodies;
  std::vector<std::size_t> tickets;
  bool broken = false;
  friend bool operator==(const seen&, const seen&) = default;
};

/// Reads in pieces of at most `piece`; messages longer than `longest` are skipped.
seen read(std::span<const std::byte> stream, std::size_t piece, std::uint64_t longest) {
  seen result;
  frame_reader reader;
  while (true) {
    if (reader.at() == stage::whole) {
      const frame_header& header = reader.header();
      must(reader.tickets().size() == header.descriptors);
      result.tickets.push_back(reader.tickets().size());
      result.bodies.push_back(reader.take_body());
      must(reader.between());
      continue;
    }
    if (reader.at() == stage::broken) {
      must(reader.fault() != serialization::frame_fault::none && reader.room().empty());
      result.broken = true;
      break;
    }
    if ((reader.at() == stage::body || reader.at() == stage::tickets) &&
        reader.header().length > longest) {
      reader.skip();
      continue;
    }
    const auto room = reader.room();
    must(!room.empty() && room.size() <= 256 * 1024);
    const std::size_t count = std::min({room.size(), piece, stream.size()});
    if (count == 0) break;
    std::copy_n(stream.begin(), count, room.begin());
    stream = stream.subspan(count);
    reader.advance(count);
  }
  for (const auto& body : result.bodies) must(body.size() <= longest);
  return result;
}

void read_stream(std::span<const std::byte> stream, std::size_t piece) {
  const seen whole = read(stream, stream.size() + 1, 1 << 16);
  must(read(stream, piece, 1 << 16) == whole);
  must(read(stream, 1, 1 << 16) == whole);
  read(stream, piece, 3);
}

void feed(handshake& to, std::span<const std::byte> bytes, std::size_t piece) {
  while (!bytes.empty()) {
    const auto room = to.room();
    must(room.size() <= handshake::longest_message);
    if (room.empty()) return;
    const std::size_t count = std::min({room.size(), piece, bytes.size()});
    std::copy_n(bytes.begin(), count, room.begin());
    bytes = bytes.subspan(count);
    to.advance(count);
  }
}

std::vector<std::byte> take(handshake& from) {
  const auto bytes = from.output();
  std::vector<std::byte> taken(bytes.begin(), bytes.end());
  from.sent(taken.size());
  return taken;
}

const authkey key("fuzz");

handshake::nonce nonce_of(int seed) {
  handshake::nonce nonce;
  nonce.fill(static_cast<std::byte>(seed));
  return nonce;
}

void be_a_stranger(handshake::side side, std::span<const std::byte> bytes, std::size_t piece) {
  handshake honest(side, key, nonce_of(1));
  take(honest);
  feed(honest, bytes, piece);
  must(honest.now() != handshake::state::proved);
  must(honest.output().size() <= handshake::longest_message);
}

/// Each triple of bytes changes one of an honest handshake's: message, place, by how much.
void meddle(std::span<const std::byte> changes, std::size_t piece) {
  handshake l(handshake::side::listener, key, nonce_of(1)),
      c(handshake::side::client, key, nonce_of(2));
  bool changed = false;
  const auto carry = [&](handshake& from, handshake& to, int number) {
    auto bytes = take(from);
    const auto original = bytes;
    for (std::size_t i = 0; i + 3 <= changes.size(); i += 3)
      if (std::to_integer<int>(changes[i]) % 3 == number && !bytes.empty())
        bytes[std::to_integer<std::size_t>(changes[i + 1]) % bytes.size()] ^= changes[i + 2];
    changed |= bytes != original;
    feed(to, bytes, piece);
  };
  carry(l, c, 0);
  carry(c, l, 1);
  const bool listener_deceived = l.now() == handshake::state::proved && changed;
  carry(l, c, 2);
  must(!listener_deceived);
  must((c.now() == handshake::state::proved) == !changed);
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

/// Now and then a right frame, which chance does not find.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  if (seed % 16 != 0 || size < 2) return LLVMFuzzerMutate(data, size, max_size);
  const frame_header header{.typed = seed % 3 != 0,
                            .descriptors = static_cast<std::uint16_t>(seed % 3 ? seed / 64 % 4 : 0),
                            .length = seed / 256 % 70'000,
                            .type = seed % 3 ? seed : 0};
  const auto bytes = serialization::write_header(header);
  if (size + bytes.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  const std::size_t at = 2 + seed / 7 % (size - 1);
  std::memmove(data + at + bytes.size(), data + at, size - at);
  std::memcpy(data + at, bytes.data(), bytes.size());
  return size + bytes.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const auto bytes = std::as_bytes(std::span(data + 2, size - 2));
  const std::size_t piece = 1 + data[1];
  switch (data[0] % 4) {
    case 0: read_stream(bytes, piece); break;
    case 1: be_a_stranger(handshake::side::listener, bytes, piece); break;
    case 2: be_a_stranger(handshake::side::client, bytes, piece); break;
    case 3: meddle(bytes, piece); break;
  }
  return 0;
}

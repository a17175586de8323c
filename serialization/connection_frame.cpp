// SPDX-License-Identifier: BSL-1.0
#include "serialization/connection_frame.hpp"

#include <algorithm>
#include <utility>

namespace carom::serialization {
namespace {

constexpr std::uint16_t kind_raw = 0;
constexpr std::uint16_t kind_typed = 1;

/// What is allocated before a byte of the body has come, and asked for in one step.
constexpr std::size_t first_step = std::size_t{64} * 1024;
constexpr std::size_t step = std::size_t{256} * 1024;
/// Memory that is kept for the next message.
constexpr std::size_t most_reused = std::size_t{1} << 20;

void put(std::byte* at, std::uint64_t value, int bytes) noexcept {
  for (int i = 0; i < bytes; ++i) at[i] = static_cast<std::byte>(value >> 8 * i);
}

std::uint64_t get(const std::byte* at, int bytes) noexcept {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= std::to_integer<std::uint64_t>(at[i]) << 8 * i;
  return value;
}

}  // namespace

frame_header_bytes write_header(const frame_header& header) noexcept {
  frame_header_bytes bytes;
  std::ranges::copy(frame_magic, bytes.begin());
  put(&bytes[4], header.typed ? kind_typed : kind_raw, 2);
  put(&bytes[6], header.descriptors, 2);
  put(&bytes[8], header.length, 8);
  put(&bytes[16], header.type, 8);
  return bytes;
}

frame_fault read_header(std::span<const std::byte, frame_header::size> bytes,
                        frame_header& into) noexcept {
  const auto magic = bytes.first<4>();
  if (std::ranges::equal(magic, handshake_magic)) return frame_fault::handshake;
  if (!std::ranges::equal(magic, frame_magic)) return frame_fault::foreign;
  const std::uint64_t kind = get(&bytes[4], 2);
  into.typed = kind == kind_typed;
  into.descriptors = static_cast<std::uint16_t>(get(&bytes[6], 2));
  into.length = get(&bytes[8], 8);
  into.type = get(&bytes[16], 8);
  if (kind > kind_typed || into.descriptors > frame_header::most_descriptors ||
      into.length > frame_header::longest || (!into.typed && (into.type != 0 || into.descriptors)))
    return frame_fault::foreign;
  return frame_fault::none;
}

std::span<std::byte> frame_reader::room() {
  switch (stage_) {
    case stage::header: return std::span(header_bytes_).subspan(count_);
    case stage::tickets:
      tickets_.resize(header_.descriptors);
      return std::as_writable_bytes(std::span(tickets_)).subspan(count_);
    case stage::body:
      if (count_ == body_.size()) grow();
      return std::span(body_).subspan(count_);
    case stage::skipping:
      if (body_.size() < first_step) body_.resize(first_step);
      return std::span(body_).first(
          static_cast<std::size_t>(std::min<std::uint64_t>(count_, body_.size())));
    case stage::whole:
    case stage::broken: break;
  }
  return {};
}

void frame_reader::grow() {
  const auto length = static_cast<std::size_t>(header_.length);
  // Room that no byte has been put into yet costs addresses, not memory; four times as much as
  // came keeps the copies few.
  if (body_.size() == body_.capacity())
    body_.reserve(std::min(length, std::max(first_step, static_cast<std::size_t>(count_) * 4)));
  body_.resize(std::min({length, body_.capacity(), body_.size() + step}));
}

void frame_reader::advance(std::size_t count) noexcept {
  switch (stage_) {
    case stage::header:
      count_ += count;
      if (count_ < frame_header::size) return;
      fault_ = read_header(header_bytes_, header_);
      count_ = 0;
      tickets_.clear();
      if (fault_ != frame_fault::none)
        stage_ = stage::broken;
      else if (header_.descriptors != 0)
        stage_ = stage::tickets;
      else
        begin_body();
      return;
    case stage::tickets:
      count_ += count;
      if (count_ == std::uint64_t{header_.descriptors} * sizeof(std::uint64_t)) begin_body();
      return;
    case stage::body:
      count_ += count;
      if (count_ == header_.length) stage_ = stage::whole;
      return;
    case stage::skipping:
      count_ -= count;
      if (count_ == 0) next();
      return;
    case stage::whole:
    case stage::broken: return;
  }
}

void frame_reader::begin_body() noexcept {
  count_ = 0;
  body_.clear();
  stage_ = header_.length == 0 ? stage::whole : stage::body;
}

void frame_reader::put_back(std::span<const std::byte> begun) {
  try {
    body_.assign(begun.begin(), begun.end());
    count_ = begun.size();
  } catch (...) {
    count_ = begun.size();
    skip();
    throw;
  }
}

void frame_reader::received_elsewhere() noexcept {
  stage_ = stage::whole;
  body_.clear();
}

void frame_reader::skip() noexcept {
  switch (stage_) {
    case stage::tickets:
      count_ = header_.length + std::uint64_t{header_.descriptors} * sizeof(std::uint64_t) - count_;
      break;
    case stage::body: count_ = header_.length - count_; break;
    case stage::whole: count_ = 0; break;
    default: return;
  }
  stage_ = stage::skipping;
  tickets_.clear();
  if (count_ == 0) return next();
  reuse(std::exchange(body_, {}));
}

void frame_reader::give_up() noexcept {
  if (stage_ != stage::broken) fault_ = frame_fault::foreign;
  stage_ = stage::broken;
  std::vector<std::byte>().swap(body_);
}

std::vector<std::byte> frame_reader::take_body() noexcept {
  std::vector<std::byte> body = std::exchange(body_, {});
  next();
  return body;
}

void frame_reader::reuse(std::vector<std::byte>&& body) noexcept {
  if (body.capacity() > most_reused || body.capacity() <= body_.capacity()) return;
  body_ = std::move(body);
  body_.clear();
}

void frame_reader::next() noexcept {
  stage_ = stage::header;
  count_ = 0;
  tickets_.clear();
  body_.clear();
  if (body_.capacity() > most_reused) std::vector<std::byte>().swap(body_);
}

}  // namespace carom::serialization

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <carom/export.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace carom::detail {

/// How deep values with `serialize` may stand inside each other: enough for long linked lists, and
/// safe on an 8 MiB stack.
inline constexpr int max_depth = 512;

[[noreturn]] CAROM_API void throw_truncated(std::size_t needed, std::size_t left);
[[noreturn]] CAROM_API void throw_too_many(std::uint64_t count, std::size_t left);
[[noreturn]] CAROM_API void throw_too_deep();
[[noreturn]] CAROM_API void throw_corrupt(std::string_view what);
[[noreturn]] CAROM_API void throw_left_over(std::size_t left);

/// Counts the values with `serialize` that are under way.
class depth_guard {
 public:
  explicit depth_guard(int& depth) : depth_{depth} {
    if (depth_ >= max_depth) throw_too_deep();
    ++depth_;
  }
  ~depth_guard() { --depth_; }
  depth_guard(const depth_guard&) = delete;
  depth_guard& operator=(const depth_guard&) = delete;

 private:
  int& depth_;
};

/// Appends to a blob. What needs no Boost archive is written through this alone.
class byte_writer {
 public:
  explicit byte_writer(blob& out) noexcept : out_{&out} {}

  void put(const void* bytes, std::size_t count) { out_->append(bytes, count); }
  template <class T>
  void put_raw(const T& value) {
    std::memcpy(out_->extend(sizeof value), &value, sizeof value);
  }
  void put_count(std::uint64_t count) { put_raw(count); }
  void put_text(std::string_view text) {
    std::byte* place = out_->extend(sizeof(std::uint64_t) + text.size());
    const std::uint64_t count = text.size();
    std::memcpy(place, &count, sizeof count);
    if (count != 0) std::memcpy(place + sizeof count, text.data(), text.size());
  }
  void put_zeros(std::size_t count) {
    if (count != 0) std::memset(out_->extend(count), 0, count);
  }
  /// Lets a duplicate of `fd` travel with the bytes, which name it.
  void put_descriptor(int fd) { put_raw(out_->descriptors().attach(fd)); }
  std::size_t position() const noexcept { return out_->size(); }

 protected:
  blob* out_;
};

/// Reads bytes that are not trusted: nothing is read past the end, no count believed.
class byte_reader {
 public:
  explicit byte_reader(std::span<const std::byte> bytes) noexcept
      : begin_{bytes.data()}, next_{begin_}, end_{begin_ + bytes.size()} {}

  std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - next_); }
  std::size_t position() const noexcept { return static_cast<std::size_t>(next_ - begin_); }

  /// The next `count` bytes, which are then behind.
  const std::byte* take(std::size_t count) {
    if (count > left()) [[unlikely]]
      throw_truncated(count, left());
    const std::byte* bytes = next_;
    next_ += count;
    return bytes;
  }
  void get(void* bytes, std::size_t count) {
    const std::byte* source = take(count);
    if (count != 0) std::memcpy(bytes, source, count);
  }
  template <class T>
  void get_raw(T& value) {
    std::memcpy(&value, take(sizeof value), sizeof value);
  }
  template <class T>
  T get_raw() {
    T value;
    get_raw(value);
    return value;
  }
  /// A number of elements, each of at least `element_size` bytes (counted as one at least).
  std::size_t get_count(std::size_t element_size = 1) {
    const auto count = get_raw<std::uint64_t>();
    if (count > left() / std::max<std::size_t>(element_size, 1)) [[unlikely]]
      throw_too_many(count, left());
    return static_cast<std::size_t>(count);
  }
  std::string_view get_text() {
    const std::size_t count = get_count();
    return {reinterpret_cast<const char*>(take(count)), count};
  }
  /// A descriptor that travelled with the bytes, the caller's now.
  int get_descriptor() { return take_descriptor(get_raw<std::uint64_t>()); }
  void get_zeros(std::size_t count) {
    const std::byte* bytes = take(count);
    if (std::any_of(bytes, bytes + count, [](std::byte b) { return b != std::byte{}; }))
      throw_corrupt("padding is not zero");
  }
  void expect_end() const {
    if (next_ != end_) [[unlikely]]
      throw_left_over(left());
  }

 protected:
  const std::byte* begin_;
  const std::byte* next_;
  const std::byte* end_;
};

}  // namespace carom::detail

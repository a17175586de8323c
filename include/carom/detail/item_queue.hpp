// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/blob.hpp>
#include <carom/detail/byte_stream.hpp>
#include <carom/export.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

namespace carom::detail {

[[noreturn]] CAROM_API void throw_no_room();

/// What simple_queue is without its type: packed items in a ring that processes share. One for each
/// handle that arrived; all functions from any thread.
class CAROM_API item_queue {
 public:
  /// Nothing is for ever.
  using patience = std::optional<std::chrono::nanoseconds>;

  static std::shared_ptr<item_queue> make(std::size_t capacity);
  static std::shared_ptr<item_queue> unpack(byte_reader& in);
  void pack(byte_writer& out) const;
  ~item_queue();
  item_queue(const item_queue&) = delete;
  item_queue& operator=(const item_queue&) = delete;

  /// An empty item, to be packed: a large one is then not copied any more.
  blob start_item() const;
  /// Takes what `item` holds. False if there was no room in time; `item` is then as it was, but for
  /// bytes that have moved into memory of their own.
  bool put(blob& item, patience time);
  /// The same for bytes that stay the caller's.
  bool put_bytes(std::span<const std::byte> bytes, patience time);
  /// False if nothing came in time.
  bool get(blob& into, patience time);

  bool empty() const;
  void close();
  bool closed() const noexcept;
  std::size_t capacity() const noexcept;

 private:
  struct body;
  explicit item_queue(std::unique_ptr<body> made);

  std::unique_ptr<body> body_;
};

}  // namespace carom::detail

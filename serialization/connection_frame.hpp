// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace carom::serialization {

/// What stands before each message of a connection. On the wire: 4 bytes of magic, 2 of kind, 2 of
/// descriptors, 8 of length, 8 of type, the least significant byte first; then a ticket of 8 bytes
/// for each descriptor; then the body.
struct frame_header {
  static constexpr std::size_t size = 24;
  static constexpr std::size_t most_descriptors = 1024;
  /// Longer ones are taken for garbage.
  static constexpr std::uint64_t longest = std::uint64_t{1} << 62;

  bool typed = false;
  std::uint16_t descriptors = 0;
  std::uint64_t length = 0;
  std::uint64_t type = 0;  ///< for a typed message: which
};

using frame_header_bytes = std::array<std::byte, frame_header::size>;
frame_header_bytes write_header(const frame_header& header) noexcept;

/// Why bytes are no header.
enum class frame_fault {
  none,
  foreign,   ///< whoever sends them is no connection of carom's
  handshake  ///< the other side wants to authenticate first
};
frame_fault read_header(std::span<const std::byte, frame_header::size> bytes,
                        frame_header& into) noexcept;

/// How the messages of an authentication begin; see runtime/authentication.
inline constexpr std::array<std::byte, 4> frame_magic{std::byte{'c'}, std::byte{'m'},
                                                      std::byte{'s'}, std::byte{'g'}};
inline constexpr std::array<std::byte, 4> handshake_magic{std::byte{'c'}, std::byte{'a'},
                                                          std::byte{'u'}, std::byte{'t'}};

/// Takes a stream apart into messages: says where the next bytes are to be put, and is told how
/// many came. Never asks for a byte of the next message, and allocates in step with what has come.
class frame_reader {
 public:
  enum class stage {
    header,
    tickets,
    body,
    whole,     ///< the message is there: take it
    skipping,  ///< what is left of a message that nobody wants
    broken     ///< garbage: there is no telling where a message begins
  };

  stage at() const noexcept { return stage_; }
  frame_fault fault() const noexcept { return fault_; }
  /// Valid from the tickets on.
  const frame_header& header() const noexcept { return header_; }
  /// Not a byte of a message has been read that has not been taken.
  bool between() const noexcept { return stage_ == stage::header && count_ == 0; }

  /// Where the next bytes of the stream go; empty when whole or broken. Throws std::bad_alloc; the
  /// reader is then as it was.
  std::span<std::byte> room();
  /// So many bytes have been put at the beginning of `room()`.
  void advance(std::size_t count) noexcept;

  /// In the body: how many of its bytes are here.
  std::size_t received() const noexcept { return stage_ == stage::body ? count_ : 0; }
  /// At the beginning of the body: its first bytes, which were received elsewhere. Throws
  /// std::bad_alloc; they are then lost, and so is the message.
  void put_back(std::span<const std::byte> begun);
  /// At the beginning of the body: all of it has been received elsewhere.
  void received_elsewhere() noexcept;
  /// From the tickets on: the message is not wanted.
  void skip() noexcept;
  /// The stream makes no sense any more.
  void give_up() noexcept;

  /// What a whole message is made of; the next begins.
  std::vector<std::byte> take_body() noexcept;
  /// Before the body is taken.
  const std::vector<std::uint64_t>& tickets() const noexcept { return tickets_; }
  /// Gives a body's memory back for the next one.
  void reuse(std::vector<std::byte>&& body) noexcept;

 private:
  void begin_body() noexcept;
  void next() noexcept;
  void grow();

  stage stage_ = stage::header;
  frame_fault fault_ = frame_fault::none;
  frame_header header_;
  frame_header_bytes header_bytes_{};
  std::uint64_t count_ = 0;  // of the stage's bytes that are here; skipping: that are still to come
  std::vector<std::uint64_t> tickets_;
  std::vector<std::byte> body_;
};

}  // namespace carom::serialization

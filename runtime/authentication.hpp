// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <carom/authkey.hpp>
#include <cstddef>
#include <span>

namespace carom::runtime {

/// How two sides prove to each other that they have the same key, without sending it:
///
///     listener → client   challenge  its nonce
///     client → listener   answer     its nonce, HMAC-SHA-256(key, "client" label, both nonces)
///     listener → client   welcome    HMAC-SHA-256(key, "listener" label, both nonces), or refusal
///
/// Nonces are fresh, so nothing can be replayed; the labels differ, so nothing can be reflected.
/// Each message is 8 bytes (magic, version, kind, length) and a body whose length its kind fixes: a
/// larger announcement is refused before a byte of it is read. Bytes in, bytes out; no system
/// calls.
class handshake {
 public:
  enum class side { listener, client };
  enum class state {
    running,
    proved,     ///< the other side has the key; the output, if any, is still to be sent
    wrong_key,  ///< it has not
    foreign,    ///< it does not speak this
    refused     ///< it says that we have not
  };
  using nonce = std::array<std::byte, 32>;
  static constexpr std::size_t longest_message = 8 + 64;

  /// `key` must outlive this. A listener's has output at once.
  handshake(side side, const authkey& key, const nonce& own_nonce);

  state now() const noexcept { return state_; }
  /// Where the next bytes of the other side go: not one behind the handshake. Empty when it is
  /// over.
  std::span<std::byte> room() noexcept;
  void advance(std::size_t count);

  /// What is to be sent now, a refusal too.
  std::span<const std::byte> output() const noexcept;
  void sent(std::size_t count) noexcept { sent_ += count; }

 private:
  enum class kind : unsigned char { challenge = 1, answer, welcome, refusal };
  using mac = std::array<std::byte, 32>;

  static std::size_t length_of(kind k) noexcept;
  void check_header() noexcept;
  void take_message();
  void say(kind k, std::initializer_list<std::span<const std::byte>> body) noexcept;
  mac proof(side of) const;
  const nonce& nonce_of(side s) const noexcept { return s == side_ ? own_ : other_; }

  side side_;
  const authkey* key_;
  nonce own_, other_{};
  state state_ = state::running;
  std::array<std::byte, longest_message> in_{}, out_{};
  std::size_t in_size_ = 0, in_wanted_, out_size_ = 0, sent_ = 0;
};

/// Throws std::system_error.
handshake::nonce fresh_nonce();

}  // namespace carom::runtime

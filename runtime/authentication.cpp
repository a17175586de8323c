// SPDX-License-Identifier: BSL-1.0
#include "runtime/authentication.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "serialization/connection_frame.hpp"

namespace carom {

authkey::authkey(std::span<const std::byte> secret) : secret_(secret.begin(), secret.end()) {
  if (secret.empty())
    throw std::invalid_argument(
        "an empty authkey would authenticate everybody: was the secret read at all? authkey() is no "
        "key");
}

authkey::authkey(std::string_view secret)
    : authkey(std::as_bytes(std::span(secret.data(), secret.size()))) {}

authkey& authkey::operator=(const authkey& other) {
  if (this != &other) *this = authkey(other);
  return *this;
}

authkey& authkey::operator=(authkey&& other) noexcept {
  if (this != &other) {
    wipe();
    secret_ = std::exchange(other.secret_, {});
  }
  return *this;
}

authkey::~authkey() { wipe(); }

void authkey::wipe() noexcept {
  if (!secret_.empty()) OPENSSL_cleanse(secret_.data(), secret_.size());
}

authkey authkey::random() {
  const auto bytes = runtime::fresh_nonce();
  return authkey(bytes);
}

namespace runtime {
namespace {

constexpr std::size_t header_size = 8;
constexpr std::byte version{1};

/// Of one length, so that no label and nonce can be another label and nonce.
constexpr std::string_view listener_label = "carom connection 1: listener";
constexpr std::string_view client_label = "carom connection 1: client  ";
static_assert(listener_label.size() == client_label.size());

}  // namespace

handshake::nonce fresh_nonce() {
  handshake::nonce bytes;
  ssize_t got;
  do got = ::getrandom(bytes.data(), bytes.size(), 0);
  while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(bytes.size()))
    throw std::system_error(errno, std::system_category(), "getrandom");
  return bytes;
}

std::size_t handshake::length_of(kind k) noexcept {
  switch (k) {
    case kind::challenge: return std::tuple_size_v<nonce>;
    case kind::answer: return std::tuple_size_v<nonce> + std::tuple_size_v<mac>;
    case kind::welcome: return std::tuple_size_v<mac>;
    case kind::refusal: return 0;
  }
  return 0;
}

handshake::handshake(side side, const authkey& key, const nonce& own_nonce)
    : side_(side), key_(&key), own_(own_nonce), in_wanted_(header_size) {
  if (side_ == side::listener) say(kind::challenge, {own_});
}

std::span<std::byte> handshake::room() noexcept {
  if (state_ != state::running) return {};
  return std::span(in_).first(in_wanted_).subspan(in_size_);
}

void handshake::advance(std::size_t count) {
  in_size_ += count;
  if (in_size_ == header_size && in_wanted_ == header_size) check_header();
  if (state_ == state::running && in_size_ == in_wanted_) take_message();
}

void handshake::check_header() noexcept {
  const auto k = static_cast<kind>(in_[5]);
  const bool expected = side_ == side::listener ? k == kind::answer
                        : out_size_ == 0        ? k == kind::challenge || k == kind::refusal
                                                : k == kind::welcome || k == kind::refusal;
  const std::size_t announced =
      std::to_integer<std::size_t>(in_[6]) | std::to_integer<std::size_t>(in_[7]) << 8;
  if (!std::equal(serialization::handshake_magic.begin(), serialization::handshake_magic.end(),
                  in_.begin()) ||
      in_[4] != version || !expected || announced != length_of(k)) {
    state_ = state::foreign;
    if (side_ == side::listener) say(kind::refusal, {});
    return;
  }
  in_wanted_ = header_size + announced;
}

void handshake::take_message() {
  const auto k = static_cast<kind>(in_[5]);
  const std::byte* const body = in_.data() + header_size;
  in_size_ = 0;
  in_wanted_ = header_size;
  switch (k) {
    case kind::challenge: {
      std::copy_n(body, other_.size(), other_.begin());
      // One's own nonce comes back only from whoever reflects it.
      if (other_ == own_) {
        state_ = state::foreign;
        return;
      }
      say(kind::answer, {own_, proof(side::client)});
      return;
    }
    case kind::answer: {
      std::copy_n(body, other_.size(), other_.begin());
      const mac expected = proof(side::client);
      const bool right = other_ != own_ &&
                         CRYPTO_memcmp(body + other_.size(), expected.data(), expected.size()) == 0;
      state_ = right ? state::proved : state::wrong_key;
      if (right)
        say(kind::welcome, {proof(side::listener)});
      else
        say(kind::refusal, {});
      return;
    }
    case kind::welcome: {
      const mac expected = proof(side::listener);
      state_ = CRYPTO_memcmp(body, expected.data(), expected.size()) == 0 ? state::proved
                                                                          : state::wrong_key;
      return;
    }
    case kind::refusal: state_ = state::refused; return;
  }
}

std::span<const std::byte> handshake::output() const noexcept {
  return std::span(out_).first(out_size_).subspan(sent_);
}

void handshake::say(kind k, std::initializer_list<std::span<const std::byte>> body) noexcept {
  std::ranges::copy(serialization::handshake_magic, out_.begin());
  out_[4] = version;
  out_[5] = static_cast<std::byte>(k);
  out_[6] = static_cast<std::byte>(length_of(k) & 0xff);
  out_[7] = static_cast<std::byte>(length_of(k) >> 8);
  out_size_ = header_size;
  for (const auto part : body) {
    std::ranges::copy(part, out_.begin() + static_cast<std::ptrdiff_t>(out_size_));
    out_size_ += part.size();
  }
  sent_ = 0;
}

handshake::mac handshake::proof(side of) const {
  const std::string_view label = of == side::listener ? listener_label : client_label;
  std::array<std::byte, listener_label.size() + 2 * std::tuple_size_v<nonce>> text;
  std::byte* at = text.data();
  const auto put = [&](const void* bytes, std::size_t count) {
    std::memcpy(at, bytes, count);
    at += count;
  };
  put(label.data(), label.size());
  put(nonce_of(side::listener).data(), std::tuple_size_v<nonce>);
  put(nonce_of(side::client).data(), std::tuple_size_v<nonce>);

  mac result;
  unsigned size = 0;
  const auto key = key_->bytes();
  if (!::HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
              reinterpret_cast<const unsigned char*>(text.data()), text.size(),
              reinterpret_cast<unsigned char*>(result.data()), &size) ||
      size != result.size())
    throw std::runtime_error("OpenSSL cannot compute HMAC-SHA-256");
  return result;
}

}  // namespace runtime
}  // namespace carom

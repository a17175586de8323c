// SPDX-License-Identifier: BSL-1.0
#include "serialization/fork_messages.hpp"

#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

namespace carom::serialization {

namespace {

// A message is its index in the variant as one byte, then its fields as they stand in memory: both
// ends are forks of one process.
auto fields(fork_request& m) { return std::tie(m.id); }
auto fields(signal_request& m) { return std::tie(m.sequence, m.id, m.signal); }
auto fields(adopt_request& m) { return std::tie(m.id, m.pid); }
auto fields(resume& m) { return std::tie(m.epoch); }
auto fields(reap_order& m) { return std::tie(m.id); }
auto fields(gone& m) { return std::tie(m.id); }
auto fields(forked& m) { return std::tie(m.id, m.pid); }
auto fields(fork_failed& m) { return std::tie(m.id, m.error); }
auto fields(exited& m) {
  return std::tie(m.id, m.pid, m.status, m.known, m.max_rss_bytes, m.user_us, m.system_us);
}
auto fields(signalled& m) { return std::tie(m.sequence); }
auto fields(servers& m) { return std::tie(m.epoch, m.keeper, m.forker); }
auto fields(forker_ready&) { return std::tuple<>{}; }
auto fields(leave_order&) { return std::tuple<>{}; }

constexpr std::int32_t highest_signal = 64;

// A pid that is zero or negative would name a group, or every process, where it is signalled.
bool valid(const signal_request& m) { return m.signal >= 0 && m.signal <= highest_signal; }
bool valid(const adopt_request& m) { return m.pid > 0; }
bool valid(const forked& m) { return m.pid > 0; }
bool valid(const fork_failed& m) { return m.error > 0; }
bool valid(const exited& m) { return m.pid > 0; }
bool valid(const servers& m) { return m.keeper > 0 && m.forker > 0; }
template <class Other>
bool valid(const Other&) {
  return true;
}

template <class Field>
void put(fork_frame& frame, const Field& field) noexcept {
  std::memcpy(frame.data.data() + frame.size, &field, sizeof field);
  frame.size += sizeof field;
}

class cursor {
 public:
  explicit cursor(std::span<const std::byte> rest) : rest_(rest) {}

  template <class Field>
  bool take(Field& field) noexcept {
    if (rest_.size() < sizeof field) return false;
    std::memcpy(&field, rest_.data(), sizeof field);
    rest_ = rest_.subspan(sizeof field);
    return true;
  }

  bool take(bool& field) noexcept {
    std::uint8_t value = 0;
    if (!take(value) || value > 1) return false;
    field = value == 1;
    return true;
  }

  bool empty() const noexcept { return rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
};

template <class Message>
std::optional<fork_message> decode_as(cursor bytes) noexcept {
  Message result;
  const bool whole =
      std::apply([&](auto&... field) { return (bytes.take(field) && ...); }, fields(result));
  if (!whole || !bytes.empty() || !valid(result)) return std::nullopt;
  return result;
}

template <std::size_t... Kinds>
std::optional<fork_message> decode_kind(std::uint8_t kind, cursor bytes,
                                        std::index_sequence<Kinds...>) noexcept {
  std::optional<fork_message> result;
  const auto try_kind = [&]<std::size_t Kind>() {
    if (kind == Kind) result = decode_as<std::variant_alternative_t<Kind, fork_message>>(bytes);
  };
  (try_kind.template operator()<Kinds>(), ...);
  return result;
}

}  // namespace

fork_frame encode(const fork_message& message) noexcept {
  fork_frame frame;
  put(frame, static_cast<std::uint8_t>(message.index()));
  std::visit(
      [&frame](auto copy) {
        std::apply(
            [&frame](const auto&... field) {
              static_assert(1 + (sizeof field + ... + 0) <=
                            std::tuple_size_v<decltype(fork_frame::data)>);
              (put(frame, field), ...);
            },
            fields(copy));
      },
      message);
  return frame;
}

std::optional<fork_message> decode_fork_message(std::span<const std::byte> bytes) noexcept {
  cursor rest{bytes};
  std::uint8_t kind = 0;
  if (!rest.take(kind)) return std::nullopt;
  return decode_kind(kind, rest, std::make_index_sequence<std::variant_size_v<fork_message>>{});
}

}  // namespace carom::serialization

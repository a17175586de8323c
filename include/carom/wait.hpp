// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/async_access.hpp>
#include <carom/export.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/listener.hpp>
#include <carom/pipe.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <ranges>
#include <span>
#include <vector>

namespace carom {

/// What `wait` can wait for; refers to it only.
class CAROM_API waitable {
 public:
  /// Ready as `connection::poll` says.
  waitable(const connection& object)
      : connection_(&object) {}  // NOLINT(google-explicit-constructor)
  /// Ready when `accept` would not wait: handshakes go on meanwhile.
  waitable(listener& object) : listener_(&object) {}              // NOLINT
  waitable(const file_descriptor& object) : fd_(object.get()) {}  // NOLINT
  /// A process's sentinel (a pidfd: ready when the process has ended), or any descriptor that can
  /// be polled for reading.
  waitable(int fd) : fd_(fd) {}  // NOLINT

 private:
  friend struct detail::connection_access;
  const connection* connection_ = nullptr;
  listener* listener_ = nullptr;
  int fd_ = -1;
};

namespace detail {
CAROM_API std::vector<std::size_t> wait(std::span<const waitable> objects,
                                        std::optional<std::chrono::nanoseconds> timeout);
}

/// Waits until at least one of the objects is ready; gives the positions of all that are, in order,
/// and none when `timeout` is over or nothing is to be waited for (billiard: connection.wait). Many
/// thousands may be waited for. Throws process_error for a closed or write-only connection,
/// std::invalid_argument for what is no descriptor. Uses each connection as a receiver.
inline std::vector<std::size_t> wait(std::initializer_list<waitable> objects) {
  return detail::wait({objects.begin(), objects.size()}, std::nullopt);
}
template <class Rep, class Period>
std::vector<std::size_t> wait(std::initializer_list<waitable> objects,
                              std::chrono::duration<Rep, Period> timeout) {
  return detail::wait({objects.begin(), objects.size()}, detail::to_nanoseconds(timeout));
}
template <std::ranges::input_range Range>
requires std::convertible_to<std::ranges::range_reference_t<Range>, waitable>
    std::vector<std::size_t> wait(Range&& objects) {
  std::vector<waitable> all;
  for (auto&& each : objects) all.emplace_back(each);
  return detail::wait(all, std::nullopt);
}
template <std::ranges::input_range Range, class Rep, class Period>
requires std::convertible_to<std::ranges::range_reference_t<Range>, waitable>
    std::vector<std::size_t> wait(Range&& objects, std::chrono::duration<Rep, Period> timeout) {
  std::vector<waitable> all;
  for (auto&& each : objects) all.emplace_back(each);
  return detail::wait(all, detail::to_nanoseconds(timeout));
}

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <optional>

namespace carom::detail {

/// Saturates: a timeout of hours::max() is "for ever" and not an overflow.
template <class Rep, class Period>
std::optional<std::chrono::nanoseconds> to_nanoseconds(std::chrono::duration<Rep, Period> d) {
  using std::chrono::duration;
  constexpr double limit = 4e18;
  const double ns = duration<double, std::nano>(d).count();
  if (ns >= limit) return std::nullopt;
  if (!(ns > 0)) return std::chrono::nanoseconds(0);
  return std::chrono::duration_cast<std::chrono::nanoseconds>(d);
}

/// How long to wait, as functions take it: any duration, zero or less for a mere look, or
/// std::nullopt for as long as it takes.
class timeout {
 public:
  timeout(std::nullopt_t) noexcept {}
  template <class Rep, class Period>
  timeout(std::chrono::duration<Rep, Period> time) : limit_(to_nanoseconds(time)) {}

  const std::optional<std::chrono::nanoseconds>& limit() const noexcept { return limit_; }

 private:
  std::optional<std::chrono::nanoseconds> limit_;
};

}  // namespace carom::detail

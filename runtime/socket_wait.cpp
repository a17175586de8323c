// SPDX-License-Identifier: BSL-1.0
#include "runtime/socket_wait.hpp"

#include <algorithm>
#include <carom/this_task.hpp>
#include <cerrno>
#include <system_error>

namespace carom::runtime {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

deadline deadline_after(std::optional<nanoseconds> timeout) noexcept {
  if (!timeout) return std::nullopt;
  const auto now = steady_clock::now();
  if (*timeout > steady_clock::time_point::max() - now) return std::nullopt;
  return now + *timeout;
}

std::optional<nanoseconds> time_left(const deadline& until) noexcept {
  if (!until) return std::nullopt;
  return std::max(nanoseconds(0), nanoseconds(*until - steady_clock::now()));
}

deadline earlier(const deadline& a, const deadline& b) noexcept {
  if (!a) return b;
  if (!b) return a;
  return std::min(*a, *b);
}

int wait_for_events(std::span<pollfd> descriptors, const deadline& until) {
  for (;;) {
    timespec span{};
    const auto left = time_left(until);
    if (left) {
      span.tv_sec = static_cast<time_t>(left->count() / 1'000'000'000);
      span.tv_nsec = static_cast<long>(left->count() % 1'000'000'000);
    }
    const int ready =
        ::ppoll(descriptors.data(), descriptors.size(), left ? &span : nullptr, nullptr);
    if (ready >= 0) return ready;
    if (errno != EINTR) throw std::system_error(errno, std::system_category(), "waiting");
    this_task::checkpoint();
  }
}

bool wait_for_event(int fd, short events, const deadline& until) {
  pollfd one{.fd = fd, .events = events, .revents = 0};
  return wait_for_events({&one, 1}, until) != 0;
}

}  // namespace carom::runtime

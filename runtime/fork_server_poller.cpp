// SPDX-License-Identifier: BSL-1.0
#include "runtime/fork_server_poller.hpp"

#include <cerrno>
#include <system_error>

namespace carom::runtime {

poller::poller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) throw std::system_error(errno, std::system_category(), "epoll_create1");
}

void poller::add(int fd, std::uint64_t tag) {
  epoll_event interest{EPOLLIN, {.u64 = tag}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &interest) != 0)
    throw std::system_error(errno, std::system_category(), "epoll_ctl");
}

void poller::remove(int fd) noexcept { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void poller::follow(const outbox& box, std::uint64_t tag, bool& watched) {
  const bool wanted = !box.empty() && !box.starved();
  if (wanted == watched || box.fd() < 0) return;
  epoll_event interest{EPOLLIN | (wanted ? EPOLLOUT : 0u), {.u64 = tag}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, box.fd(), &interest) == 0) watched = wanted;
}

std::span<const poller::event> poller::wait(int timeout_ms) {
  epoll_event ready[batch];
  const int count = ::epoll_wait(epoll_.get(), ready, batch, timeout_ms);
  std::size_t used = 0;
  for (int i = 0; i < count; ++i)
    events_[used++] = {ready[i].data.u64,
                       (ready[i].events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0,
                       (ready[i].events & EPOLLOUT) != 0};
  return {events_.data(), used};
}

}  // namespace carom::runtime

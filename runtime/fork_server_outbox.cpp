// SPDX-License-Identifier: BSL-1.0
#include "runtime/fork_server_outbox.hpp"

#include <fcntl.h>

namespace carom::runtime {

std::error_code outbox::deliver(const serialization::fork_frame& frame, std::span<const int> fds,
                                std::uint64_t tag) {
  const std::error_code error = socket_.send(frame.bytes(), fds);
  starved_ = is_shortage(error);
  if (!error && tag != no_tag) sent_.push_back(tag);
  return error;
}

bool outbox::push(const serialization::fork_message& message, std::initializer_list<int> fds,
                  std::uint64_t tag) {
  entry waiting{serialization::encode(message), {}, tag};
  if (queue_.empty()) {
    const std::error_code error = deliver(waiting.frame, {fds.begin(), fds.size()}, tag);
    if (error != std::errc::operation_would_block && !starved_) return true;
  }
  for (const int fd : fds) {
    waiting.fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!waiting.fds.back()) {
      starved_ = false;  // nothing waits here
      return false;
    }
  }
  queue_.push_back(std::move(waiting));
  return true;
}

void outbox::flush() {
  while (!queue_.empty()) {
    const entry& next = queue_.front();
    std::vector<int> fds;
    for (const unique_fd& fd : next.fds) fds.push_back(fd.get());
    const std::error_code error = deliver(next.frame, fds, next.tag);
    if (error == std::errc::operation_would_block || starved_) return;
    queue_.pop_front();
  }
}

}  // namespace carom::runtime

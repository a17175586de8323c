// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/descriptors.hpp>

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <cerrno>
#include <string>
#include <system_error>

namespace carom::detail {
namespace {

/// Random in each process, one more for each descriptor: those of two processes do not meet. A
/// forked copy begins anew.
std::uint64_t next_ticket() {
  struct series {
    std::atomic<pid_t> owner{0};
    std::atomic<std::uint64_t> next{0};
  };
  static series tickets;
  if (const pid_t self = ::getpid(); tickets.owner.load(std::memory_order_acquire) != self) {
    std::uint64_t start = 0;
    if (::getrandom(&start, sizeof start, 0) != sizeof start)
      throw std::system_error(errno, std::system_category(), "getrandom");
    // Of two threads that come first, the second moves the series: both places are as good.
    tickets.next.store(start, std::memory_order_relaxed);
    tickets.owner.store(self, std::memory_order_release);
  }
  return tickets.next.fetch_add(1, std::memory_order_relaxed);
}

thread_local const descriptor_list* in_reach = nullptr;

int duplicate_fd(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy >= 0) return copy;
  const int error = errno;
  throw encoding_error("descriptor " + std::to_string(fd) +
                       " cannot travel: " + std::system_category().message(error) +
                       (error == EMFILE ? "; close some, or raise RLIMIT_NOFILE" : ""));
}

}  // namespace

descriptor_list& descriptor_list::operator=(descriptor_list&& other) noexcept {
  if (this != &other) {
    clear();
    entries_.swap(other.entries_);
  }
  return *this;
}

std::uint64_t descriptor_list::attach(int fd) {
  if (entries_.size() >= most)
    throw encoding_error("more than " + std::to_string(most) + " descriptors in one message");
  entries_.reserve(entries_.size() + 1);
  const std::uint64_t ticket = next_ticket();
  entries_.push_back({ticket, duplicate_fd(fd)});
  return ticket;
}

void descriptor_list::adopt(std::uint64_t ticket, int fd) {
  if (find(ticket) >= 0) {
    ::close(fd);
    return;
  }
  entries_.push_back({ticket, fd});
}

void descriptor_list::merge(descriptor_list&& other) {
  for (const entry& one : std::exchange(other.entries_, {})) adopt(one.ticket, one.fd);
}

descriptor_list descriptor_list::duplicate() const {
  descriptor_list copy;
  copy.entries_.reserve(entries_.size());
  for (const entry& one : entries_) copy.entries_.push_back({one.ticket, duplicate_fd(one.fd)});
  return copy;
}

int descriptor_list::find(std::uint64_t ticket) const noexcept {
  const auto it = std::find_if(entries_.begin(), entries_.end(),
                               [&](const entry& one) { return one.ticket == ticket; });
  return it == entries_.end() ? -1 : it->fd;
}

CAROM_START_PATH void descriptor_list::truncate(std::size_t count) noexcept {
  while (entries_.size() > count) {
    ::close(entries_.back().fd);
    entries_.pop_back();
  }
}

CAROM_START_PATH descriptor_scope::descriptor_scope(const descriptor_list* list) noexcept
    : before_(in_reach) {
  if (list) in_reach = list;
}
CAROM_START_PATH descriptor_scope::~descriptor_scope() { in_reach = before_; }

int take_descriptor(std::uint64_t ticket) {
  const int found = in_reach ? in_reach->find(ticket) : -1;
  if (found < 0)
    throw encoding_error(
        "a handle's descriptor did not arrive with its message; the receiving process may have run "
        "out of descriptors (RLIMIT_NOFILE)");
  return duplicate_fd(found);
}

}  // namespace carom::detail

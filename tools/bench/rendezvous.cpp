// SPDX-License-Identifier: BSL-1.0
#include "rendezvous.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

namespace bench {

namespace {

constexpr auto patience = std::chrono::seconds(30);

/// A pipe of the host, reached through /proc: workers inherit none.
descriptor open_of(int pid, int fd, int mode) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  descriptor opened(::open(path.c_str(), mode | O_CLOEXEC));
  if (opened.get() < 0) throw std::runtime_error("cannot open " + path);
  return opened;
}

void begin_and_wait(int host, int begun, int release) {
  char byte = 1;
  if (::write(open_of(host, begun, O_WRONLY).get(), &byte, 1) != 1 ||
      ::read(open_of(host, release, O_RDONLY).get(), &byte, 1) != 1)
    throw std::runtime_error("the rendezvous is gone");
}

}  // namespace

void rendezvous::submit(carom::pool& pool, int count) {
  for (int i = 0; i < count; ++i)
    held_.push_back(pool.apply_async(begin_and_wait, static_cast<int>(::getpid()),
                                     begun_.write.get(), release_.read.get()));
}

void rendezvous::wait() {
  char bytes[256];
  for (std::size_t begun = 0; begun < held_.size();) {
    if (!wait_readable(begun_.read.get(), patience))
      throw std::runtime_error(std::to_string(begun) + " of " + std::to_string(held_.size()) +
                               " tasks that wait for each other have begun");
    begun += static_cast<std::size_t>(
        std::max<ssize_t>(0, ::read(begun_.read.get(), bytes, sizeof bytes)));
  }
}

void rendezvous::release() {
  const std::string bytes(held_.size(), 'x');
  if (::write(release_.write.get(), bytes.data(), bytes.size()) != ssize_t(bytes.size()))
    throw std::runtime_error("cannot release the tasks");
  for (const auto& each : held_) each.get(patience);
  held_.clear();
}

}  // namespace bench

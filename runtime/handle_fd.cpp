// SPDX-License-Identifier: BSL-1.0
#include "runtime/handle_fd.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/segment.hpp"

namespace carom::runtime {
namespace {

constexpr std::string_view memory_link = "/memfd:carom-handle-";
constexpr std::string_view socket_link = "socket:[";

/// A receive timeout that nobody sets by accident. It means nothing to who never waits, and stays
/// with the socket wherever that goes.
constexpr time_t mark_seconds = 0x6361726f;

bool has_mark(int socket) noexcept {
  timeval time{};
  socklen_t size = sizeof time;
  return ::getsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, &size) == 0 &&
         time.tv_sec == mark_seconds;
}

[[noreturn]] void throw_lost() {
  throw process_error(
      "this process has inherited a handle, but not its descriptor, which stayed behind when it was "
      "forked: pass the handle as an argument");
}

}  // namespace

CAROM_START_DATA std::atomic<unsigned> handle_fd::closings_{0};

handle_fd::handle_fd(unique_fd fd) noexcept {
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return;
  device_ = status.st_dev;
  inode_ = status.st_ino;
  fd_.store(fd.release(), std::memory_order_relaxed);
}

handle_fd::~handle_fd() {
  const int fd = fd_.load(std::memory_order_relaxed);
  if (fd >= 0 && intact()) ::close(fd);
}

void handle_fd::swap(handle_fd& other) noexcept {
  const auto exchange = [](auto& a, auto& b) {
    const auto kept = a.load(std::memory_order_relaxed);
    a.store(b.load(std::memory_order_relaxed), std::memory_order_relaxed);
    b.store(kept, std::memory_order_relaxed);
  };
  exchange(fd_, other.fd_);
  exchange(seen_, other.seen_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
}

bool handle_fd::intact() const noexcept {
  struct stat status {};
  return ::fstat(fd_.load(std::memory_order_relaxed), &status) == 0 && status.st_dev == device_ &&
         status.st_ino == inode_;
}

int handle_fd::verified() const {
  if (!intact()) throw_lost();
  return fd_.load(std::memory_order_relaxed);
}

void handle_fd::look_again() const {
  const unsigned now = closings();
  if (!intact()) throw_lost();
  seen_.store(now, std::memory_order_relaxed);
}

void handle_fd::renew(unique_fd fresh) noexcept {
  if (!intact()) fd_.store(fresh.release(), std::memory_order_relaxed);
}

unique_fd make_handle_memory(const char* name, std::size_t size) {
  return out_of_the_way(make_shared_memory((std::string("carom-handle-") + name).c_str(), size));
}

void mark_as_handle(const unique_fd& socket) noexcept {
  const timeval mark{mark_seconds, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &mark, sizeof mark);
}

unique_fd out_of_the_way(unique_fd fd) noexcept {
  if (!fd || fd.get() >= first_handle_fd) return fd;
  unique_fd lifted(::fcntl(fd.get(), F_DUPFD_CLOEXEC, first_handle_fd));
  return lifted ? std::move(lifted) : std::move(fd);
}

bool is_of_handle(int fd) noexcept {
  std::array<char, 64> path{}, target{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(path.data(), target.data(), target.size());
  if (length <= 0) return false;
  const std::string_view link(target.data(), static_cast<std::size_t>(length));
  return link.starts_with(memory_link) || (link.starts_with(socket_link) && has_mark(fd));
}

std::vector<int> descriptors_of_handles() {
  std::vector<int> found;
  if (DIR* dir = ::opendir("/proc/self/fd")) {
    while (const dirent* entry = ::readdir(dir))
      if (const int fd = ::atoi(entry->d_name); fd > STDERR_FILENO && is_of_handle(fd))
        found.push_back(fd);
    ::closedir(dir);
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// Owns a file descriptor.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) noexcept : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() { reset(); }
  int get() const noexcept { return fd_; }
  void reset() noexcept;

 private:
  int fd_ = -1;
};

struct pipe_ends {
  descriptor read;
  descriptor write;
};
/// A close-on-exec pipe.
pipe_ends make_pipe();

/// Waits until `fd` is readable; false when `timeout` is over.
bool wait_readable(int fd, std::chrono::milliseconds timeout);

/// A child of this process that ends with its owner.
class child_process {
 public:
  enum class kind { alone, group_leader };

  explicit child_process(pid_t pid, kind k) noexcept : pid_(pid), kind_(k) {}
  child_process(child_process&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), kind_(other.kind_) {}
  child_process& operator=(child_process&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(kind_, other.kind_);
    return *this;
  }
  ~child_process() { end(std::chrono::milliseconds(0)); }

  /// Lets the child leave by itself for `grace`, then kills it, with the group it leads. Reaps it.
  void end(std::chrono::milliseconds grace) noexcept;

 private:
  pid_t pid_;
  kind kind_;
};

/// Forks this process; the child runs `body`, leaves, and dies with its parent.
child_process fork_child(const std::function<void()>& body);

/// A program with pipes as its standard input and output, leader of a process group: Ctrl-C does
/// not reach it, and what it started is ended with it.
struct piped_program {
  child_process process;
  descriptor input;
  descriptor output;
};
/// `command` is the program's path and its arguments. Throws std::system_error.
piped_program start_program(const std::vector<std::string>& command);

}  // namespace bench

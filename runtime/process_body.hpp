// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>

namespace carom::detail {

/// What the handles on one process share: this process itself, the one that started it, or a child.
/// What makes no sense for one of them throws process_error.
class process_body {
 public:
  virtual ~process_body() = default;

  virtual std::string name() = 0;
  virtual void set_name(std::string name);
  virtual bool daemon();
  virtual void set_daemon(bool daemon);
  virtual void start();
  virtual bool join(std::optional<std::chrono::nanoseconds> timeout) = 0;
  virtual void signal(int number);
  virtual void terminate_controlled();
  virtual bool controlled_termination() { return false; }
  virtual bool is_alive() = 0;
  virtual pid_t pid() = 0;
  virtual std::optional<int> exitcode() { return std::nullopt; }
  virtual int sentinel() = 0;
  virtual std::string authkey();
  virtual void set_authkey(std::string key);
  virtual void close();
};

}  // namespace carom::detail

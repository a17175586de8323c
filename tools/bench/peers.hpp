// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "process.hpp"

namespace bench {

/// Programs that measure what is not carom, each in a process of its own.
enum class peer_id { billiard, multiprocessing, basp, limits };

const char* name_of(peer_id peer);

/// A peer cannot be measured; `what` says why.
class peer_missing : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A running peer. Requests and replies are lines: "WORD NUMBER…" is answered by "ok NUMBER…" or
/// "error TEXT"; at first it says "ok". It leaves when its input ends.
class peer {
 public:
  /// Starts it and waits for its greeting. Throws peer_missing.
  explicit peer(const std::vector<std::string>& command);
  ~peer();
  peer(const peer&) = delete;
  peer& operator=(const peer&) = delete;

  /// Sends a request and waits for the reply. Throws peer_missing.
  std::vector<double> ask(const std::string& request);
  /// Whether it failed to reply: what comes next might be an old reply.
  bool broken() const noexcept { return broken_; }

 private:
  std::vector<double> receive();
  std::string read_line();

  piped_program program_;
  std::string unread_;
  bool broken_ = false;
};

/// The peers of a run, started when they are first asked for and ended with the set.
class peer_set {
 public:
  explicit peer_set(int workers) : workers_(workers) {}
  /// Throws peer_missing, with the same reason each time.
  peer& get(peer_id id);

 private:
  int workers_;
  std::map<peer_id, std::unique_ptr<peer>> running_;
  std::map<peer_id, std::string> missing_;
};

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "runtime/fork_server_family.hpp"
#include "runtime/fork_server_outbox.hpp"
#include "runtime/fork_server_poller.hpp"
#include "runtime/fork_server_process.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

struct keeper_seat;

/// What a process needs to be the forker.
struct forker_seat {
  server_context context;
  channel to_keeper;
  unique_fd keeper_pidfd;
  /// Workers that the keeper looks after itself: ours to watch if it dies.
  worker_table inherited;
};

/// Forks the workers, sees them end and reports to the keeper. A worker runs only once the keeper,
/// or this process in its place, is certain to know of it; its zombie stays until its exit is in
/// the host's queue.
class forker {
 public:
  explicit forker(forker_seat);

  /// Returns when the keeper is gone: this process is the keeper now.
  keeper_seat serve();

 private:
  void boot();
  void preload();
  void receive();
  void dispatch(const serialization::fork_message&, std::vector<unique_fd>& fds);
  void on(const serialization::fork_request&, std::vector<unique_fd>& fds);
  void on(const serialization::signal_request&, std::vector<unique_fd>&);
  void on(const serialization::adopt_request&, std::vector<unique_fd>& fds);
  void on(const serialization::reap_order&, std::vector<unique_fd>&);
  void on(const serialization::gone&, std::vector<unique_fd>&);
  void on(const serialization::leave_order&, std::vector<unique_fd>&);
  void worker_ready(std::uint64_t id);
  void release_reported();
  keeper_seat succeed();
  [[noreturn]] void leave();

  server_context context_;
  unique_fd keeper_pidfd_;
  poller poller_;
  family family_;
  outbox to_keeper_;
  bool watches_room_ = false;
  bool keeper_gone_ = false;
  worker_table inherited_;
  /// Write ends that let forked workers begin.
  std::unordered_map<std::uint64_t, unique_fd> unreleased_;
};

}  // namespace carom::runtime

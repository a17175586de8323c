// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "runtime/fork_server_family.hpp"
#include "runtime/fork_server_outbox.hpp"
#include "runtime/fork_server_poller.hpp"
#include "runtime/fork_server_process.hpp"
#include "runtime/forker.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// What a process needs to be the keeper.
struct keeper_seat {
  server_context context;
  worker_table workers;
};

/// Passes requests and reports between host and forker, forks a new forker when one dies and looks
/// after the workers it leaves behind. Remembers what is unanswered: a dead forker's requests go to
/// the next.
class keeper {
 public:
  explicit keeper(keeper_seat);

  /// Returns in a forker that it has forked. As keeper, the process never comes back.
  forker_seat serve();

 private:
  std::optional<forker_seat> fork_forker();
  std::optional<forker_seat> replace_forker();
  void announce();
  void tell_all_workers();

  void receive_from_host();
  void receive_from_forker();
  void dispatch_host(const serialization::fork_message&, std::vector<unique_fd>& fds);
  void dispatch_forker(const serialization::fork_message&, std::vector<unique_fd>& fds);

  void from_host(const serialization::fork_request&, std::vector<unique_fd>& fds);
  void from_host(const serialization::signal_request&, std::vector<unique_fd>&);
  void from_host(const serialization::adopt_request&, std::vector<unique_fd>& fds);
  void from_host(const serialization::resume&, std::vector<unique_fd>&);

  void from_forker(const serialization::forked&, std::vector<unique_fd>& fds);
  void from_forker(const serialization::fork_failed&, std::vector<unique_fd>&);
  void from_forker(const serialization::exited&, std::vector<unique_fd>&);
  void from_forker(const serialization::signalled&, std::vector<unique_fd>&);
  void from_forker(const serialization::forker_ready&, std::vector<unique_fd>&);

  void pass_request(std::uint64_t id, int worker_end);
  void tell_host(const serialization::forked&, const worker_record&);
  void perform(const serialization::signal_request&);
  void worker_ready(std::uint64_t id);
  void forget_reported();
  [[noreturn]] void leave();

  server_context context_;
  poller poller_;
  family family_;
  outbox to_host_;
  outbox to_forker_;
  bool watches_host_room_ = false;
  bool watches_forker_room_ = false;
  /// False from a keeper's death until the host says what is still unanswered.
  bool accepts_ = true;
  bool forker_gone_ = false;
  /// It has booted, and reads what it is told.
  bool forker_serves_ = false;
  int boots_failed_ = 0;
  pid_t forker_ = 0;
  unique_fd forker_pidfd_;
  /// Unanswered fork requests, with the workers' channel ends.
  std::map<std::uint64_t, unique_fd> requests_;
  /// Signals that the forker has not confirmed.
  std::map<std::uint64_t, serialization::signal_request> relayed_;
};

}  // namespace carom::runtime

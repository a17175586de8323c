// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/fork_server.hpp"

namespace carom::runtime::testing {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

/// What the fork server said, per id.
struct recorder final : fork_server::events {
  struct entry {
    int forked = 0;
    int failed = 0;
    int exited = 0;
    int error = 0;
    pid_t pid = 0;
    unique_fd pidfd;
    exit_info exit;
  };
  std::map<std::uint64_t, entry> workers;
  std::size_t answered = 0;
  std::size_t ended = 0;
  bool lost = false;

  void forked(std::uint64_t id, pid_t pid, unique_fd pidfd) override;
  void fork_failed(std::uint64_t id, int error) override;
  void exited(std::uint64_t id, const exit_info&) override;
  void lost_contact() override { lost = true; }
};

/// Does what the messages on the channel say, until it ends; see the source for the words.
void answer_words(channel&);

/// A worker's main that does only that.
void obey(channel);

/// Sends a word to a worker, or receives its answer; a failed test on any error.
void tell(channel& worker, std::string_view word);
std::string answer_of(channel& worker, std::chrono::milliseconds patience = 10s);
std::vector<pid_t> numbers_in(const std::string& answer);

bool is_alive(pid_t);
/// A process that is killed with another ends when the scheduler lets it: whether it was within
/// `patience`.
bool ends(pid_t, std::chrono::milliseconds patience = 10s);
int count_fds(pid_t);

/// Waits until this process, a subreaper, has no child left; returns whether that came in time.
bool wait_until_childless(std::chrono::milliseconds patience);

/// A host with its fork server. As the tests are subreapers, whatever a test leaves behind is their
/// child in the end: the fixture knows exactly that nothing is left.
class ForkServer : public ::testing::Test {
 protected:
  ForkServer();
  ~ForkServer() override;

  void start(child_hooks hooks = {nullptr, &obey}) { server_ = fork_server::start(hooks); }
  /// Asks for a worker; its channel is in channels_[id].
  std::uint64_t fork_one();
  /// Asks for one and waits until it is there.
  std::uint64_t forked_one();
  /// Serves the fork server's descriptor until `done`; a failed test after `patience`.
  void pump_until(const std::function<bool()>& done, std::chrono::milliseconds patience = 20s);
  void await_exit(std::uint64_t id);
  channel& to(std::uint64_t id) { return channels_.at(id); }
  pid_t pid_of(std::uint64_t id) { return seen_.workers.at(id).pid; }

  std::unique_ptr<fork_server> server_;
  recorder seen_;
  std::map<std::uint64_t, channel> channels_;
  std::uint64_t next_id_ = 1;
  int fds_before_;
};

}  // namespace carom::runtime::testing

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/fork_server_poller.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// Whose child a worker is, as seen by the process that keeps the record.
enum class kinship {
  own,
  /// The forker's; in the keeper only.
  forkers,
  /// Nobody's of ours any more: a dead keeper was its parent.
  stranger,
  /// The host's, which forked it itself.
  hosts,
};

struct worker_record {
  pid_t pid = 0;
  unique_fd pidfd;
  kinship kin = kinship::own;
  bool ended = false;
  exit_info exit;
};

/// Kills a worker whose parent is not this process, with its group and all its descendants.
void kill_without_parent(const worker_record&);

using worker_table = std::unordered_map<std::uint64_t, worker_record>;

/// Waits for the guardians among them, which end by themselves with the host, and kills those that
/// are not gone by `until`.
void await_guardians(const worker_table&, std::chrono::steady_clock::time_point until);

/// The workers that keeper or forker looks after, and the children that come to it as a subreaper.
/// Only a parent signals a group by number, and before it reaps the leader, so no kill ever meets a
/// reused pid.
class family {
 public:
  /// Must be made in the process that waits on `poll`, with SIGCHLD blocked; `children_tag` marks
  /// its event.
  family(poller& poll, std::uint64_t children_tag);
  ~family();
  family(const family&) = delete;
  family& operator=(const family&) = delete;

  worker_table& workers() noexcept { return workers_; }
  worker_record* find(std::uint64_t id);
  /// Adds a worker and, unless its parent is the forker, watches it: its id is the tag of the
  /// event.
  worker_record& add(std::uint64_t id, worker_record);
  /// Keeper: the forker is dead and its children have come to us.
  void take_over_from_forker();
  /// Forker: hands the records to the keeper that this process becomes.
  worker_table release();

  /// The worker's end was seen: learns how, and kills what is left of its group and of its detached
  /// descendants.
  void note_end(worker_record&);
  /// Signals the group of a worker that has not ended, a stranger's whole tree where it is to die.
  void signal(const worker_record&, int signal);
  /// Drops the record, and the zombie if it is our child.
  void forget(std::uint64_t id);

  /// SIGCHLD came: a child that is no worker may have ended.
  void children_changed();
  /// Once per turn: reaps ended children that are no workers and, after a worker has ended, kills
  /// those that live, but for members of a living worker's group, for what bears its mark (it was
  /// forked there and has executed no other program), and for the fork server that it has started,
  /// with what that looks after. Puts it off when the forker (the
  /// keeper's) has ended: its workers are among the children and not yet taken over.
  /// When a stranger has ended, also kills what it had forked into sessions of their own: that has
  /// gone to init, or to a subreaper above us, and is known by the host's pidfd, which it inherited
  /// (and loses when it executes another program).
  void sweep(pid_t forker = 0, int forker_pidfd = -1);
  /// Next sweep kills.
  void hunt() noexcept { sweep_ = hunt_ = true; }

  /// Kills every worker but those that have a guardian: groups, and the trees of strangers.
  void end_workers();

 private:
  bool sweep_once(pid_t forker, int forker_pidfd);
  void kill_strays(pid_t forker) const;
  bool is_below_the_living(pid_t, pid_t host, pid_t forker) const;
  bool is_own_worker(pid_t) const;
  std::vector<pid_t> children();
  bool bears_the_mark_of_the_living(pid_t) const;
  bool belongs_to_the_living(pid_t child, const std::vector<pid_t>& children) const;
  void unwatch(worker_record&);

  poller& poller_;
  unique_fd child_signals_;
  unique_fd children_file_;  // of this process, read again and again
  worker_table workers_;
  std::unordered_map<pid_t, std::uint64_t> ids_;
  std::unordered_set<pid_t> condemned_;
  bool sweep_ = true;
  bool hunt_ = false;
  bool strays_ = false;
};

}  // namespace carom::runtime

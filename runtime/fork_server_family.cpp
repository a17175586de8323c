// SPDX-License-Identifier: BSL-1.0
#include "runtime/fork_server_family.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "runtime/fork_server_process.hpp"
#include "runtime/proc_tree.hpp"

namespace carom::runtime {

void kill_without_parent(const worker_record& worker) {
  kill_tree(worker.pid, worker.pidfd.get());
  signal_group(worker.pid, worker.pidfd.get(), SIGKILL, false);
}

void await_guardians(const worker_table& workers, std::chrono::steady_clock::time_point until) {
  for (const auto& [id, worker] : workers) {
    if (worker.kin != kinship::hosts || worker.ended) continue;
    if (!ends_before(worker.pidfd.get(), until)) kill_without_parent(worker);
  }
}

family::family(poller& poll, std::uint64_t children_tag) : poller_(poll) {
  sigset_t children;
  ::sigemptyset(&children);
  ::sigaddset(&children, SIGCHLD);
  child_signals_.reset(::signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!child_signals_) throw std::system_error(errno, std::system_category(), "signalfd");
  poller_.add(child_signals_.get(), children_tag);
}

family::~family() = default;

worker_record* family::find(std::uint64_t id) {
  const auto found = workers_.find(id);
  return found == workers_.end() ? nullptr : &found->second;
}

worker_record& family::add(std::uint64_t id, worker_record record) {
  forget(id);
  worker_record& added = workers_.emplace(id, std::move(record)).first->second;
  ids_[added.pid] = id;
  if (added.kin != kinship::forkers && !added.ended) poller_.add(added.pidfd.get(), id);
  return added;
}

void family::take_over_from_forker() {
  for (auto& [id, worker] : workers_) {
    if (worker.kin != kinship::forkers) continue;
    worker.kin = kinship::own;
    if (!worker.ended) poller_.add(worker.pidfd.get(), id);
  }
  hunt();
}

worker_table family::release() {
  ids_.clear();
  return std::exchange(workers_, {});
}

void family::note_end(worker_record& worker) {
  if (worker.ended) return;
  std::optional<exit_info> exit;
  if (worker.kin == kinship::own) exit = peek_child(worker.pid);
  worker.exit = exit ? *exit : exit_of_stranger(worker.pid, worker.pidfd.get());
  unwatch(worker);
  worker.ended = true;
  if (worker.kin == kinship::stranger) strays_ = true;
  // The host ends the groups of its own children itself: it alone knows when it reaps them.
  if (worker.kin != kinship::hosts)
    signal_group(worker.pid, worker.pidfd.get(), SIGKILL, worker.kin == kinship::own);
  hunt();
}

void family::signal(const worker_record& worker, int signal) {
  if (worker.ended) return;
  if (worker.kin == kinship::stranger && signal == SIGKILL) return kill_without_parent(worker);
  signal_group(worker.pid, worker.pidfd.get(), signal, worker.kin == kinship::own);
}

void family::forget(std::uint64_t id) {
  const auto found = workers_.find(id);
  if (found == workers_.end()) return;
  worker_record& worker = found->second;
  unwatch(worker);
  if (const auto known = ids_.find(worker.pid); known != ids_.end() && known->second == id)
    ids_.erase(known);
  if (worker.kin == kinship::own && worker.ended) reap_child(worker.pid);
  workers_.erase(found);
}

void family::unwatch(worker_record& worker) {
  if (worker.kin != kinship::forkers && !worker.ended) poller_.remove(worker.pidfd.get());
}

void family::children_changed() {
  signalfd_siginfo ignored[8];
  while (::read(child_signals_.get(), ignored, sizeof ignored) > 0) {
  }
  sweep_ = true;
}

bool family::is_own_worker(pid_t pid) const {
  const auto found = ids_.find(pid);
  return found != ids_.end() && workers_.at(found->second).kin == kinship::own;
}

std::vector<pid_t> family::children() {
  // The servers have one thread.
  if (!children_file_)
    children_file_.reset(::open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC));
  const auto found = children_file_ ? read_children(children_file_.get()) : std::nullopt;
  return found ? *found : children_of(::getpid());
}

bool family::bears_the_mark_of_the_living(pid_t pid) const {
  const auto ours = ids_.find(pid_behind(pid, mark_fd));
  return ours != ids_.end() && !workers_.at(ours->second).ended;
}

/// Servers of a worker come to us when what started them ends (the keeper is made so), and so do
/// workers of theirs when a keeper dies. Each holds a pidfd of its host: a worker of ours, or one
/// of those that came to us so.
bool family::belongs_to_the_living(pid_t child, const std::vector<pid_t>& children) const {
  // As deep as nesting goes; a circle cannot be, but for numbers that are used again.
  for (int depth = 0; depth != 64; ++depth) {
    const pid_t host = pid_behind(child, host_fd);
    if (host <= 0) return false;
    if (const auto ours = ids_.find(host); ours != ids_.end())
      return !workers_.at(ours->second).ended;
    if (condemned_.contains(host) || std::ranges::find(children, host) == children.end())
      return false;
    child = host;
  }
  return false;
}

bool family::is_below_the_living(pid_t child, pid_t host, pid_t forker) const {
  for (int depth = 0; depth != 64; ++depth) {
    const auto entry = proc_entry::read(child);
    if (!entry) return true;  // it is gone
    child = entry->parent;
    // The host may be process 1, as in a container.
    if (child == host || child == forker || child == ::getpid()) return true;
    if (child <= 1) return false;
    if (const auto ours = ids_.find(child); ours != ids_.end())
      return !workers_.at(ours->second).ended;
  }
  return true;
}

void family::kill_strays(pid_t forker) const {
  const pid_t host = pid_behind(::getpid(), host_fd);
  if (host <= 0) return;
  std::unordered_set<pid_t> killed;
  // One that forks while it is killed leaves children that the next look finds.
  for (bool more = true; std::exchange(more, false);) {
    for (const pid_t pid : holders_of(host, host_fd)) {
      if (pid == ::getpid() || pid == forker || killed.contains(pid)) continue;
      const auto leader = ids_.find(::getpgid(pid));
      if (leader != ids_.end() && !workers_.at(leader->second).ended) continue;
      // A host may have more than one fork server, each with a pidfd of its own.
      if (shares_file(pid, host_fd) == false) continue;
      if (ids_.contains(pid) || is_below_the_living(pid, host, forker)) continue;
      if (bears_the_mark_of_the_living(pid)) continue;
      const unique_fd pidfd = open_pidfd(pid);
      if (!pidfd || pid_behind(pid, host_fd) != host) continue;
      signal_process(pidfd.get(), SIGKILL);
      killed.insert(pid);
      more = true;
    }
  }
}

void family::sweep(pid_t forker, int forker_pidfd) {
  if (std::exchange(strays_, false)) kill_strays(forker);
  while (std::exchange(sweep_, false)) {
    if (!sweep_once(forker, forker_pidfd)) return;
  }
}

/// False when it has to be put off.
bool family::sweep_once(pid_t forker, int forker_pidfd) {
  // What dies of a hunt leaves its own children to us.
  const bool hunting = std::exchange(hunt_, false) || !condemned_.empty();
  const std::vector<pid_t> children = this->children();
  // If the forker was alive after the look, none of them is a worker that has come to us from it.
  if (forker != 0 && has_ended(forker_pidfd)) {
    sweep_ = true;
    hunt_ = hunting;
    return false;
  }
  for (const pid_t child : children) {
    if (child == forker || is_own_worker(child)) continue;
    if (reap_child(child)) {
      // What it leaves may have come after the look.
      if (condemned_.erase(child) != 0) hunt();
      continue;
    }
    if (!hunting || condemned_.contains(child)) continue;
    const auto leader = ids_.find(::getpgid(child));
    if (leader != ids_.end() && !workers_.at(leader->second).ended) continue;
    if (bears_the_mark_of_the_living(child) || belongs_to_the_living(child, children)) continue;
    kill_child(child);
    condemned_.insert(child);
  }
  return true;
}

void family::end_workers() {
  for (auto& [id, worker] : workers_) {
    switch (worker.kin) {
      case kinship::own: signal_group(worker.pid, worker.pidfd.get(), SIGKILL, true); break;
      case kinship::forkers: signal_group(worker.pid, worker.pidfd.get(), SIGKILL, false); break;
      case kinship::stranger: kill_without_parent(worker); break;
      case kinship::hosts: break;
    }
  }
}

}  // namespace carom::runtime

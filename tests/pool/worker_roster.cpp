// SPDX-License-Identifier: BSL-1.0
#include "tests/pool/worker_roster.hpp"

#include <unistd.h>

#include <csignal>
#include <iterator>

#include "tests/support/processes.hpp"

namespace carom::test {

pool_options worker_roster::watch(pool_options options) {
  options.on_process_up = [this](const process_event& event) { up(event); };
  options.on_process_down = [this](const process_event& event) { down(event); };
  return options;
}

void worker_roster::up(const process_event& event) {
  std::lock_guard lock(mutex_);
  alive_[event.pid] = event;
  ++ups_;
  changed_.notify_all();
}

void worker_roster::down(const process_event& event) {
  std::lock_guard lock(mutex_);
  alive_.erase(event.pid);
  downs_.push_back(event);
  changed_.notify_all();
}

std::set<pid_t> worker_roster::alive() const {
  std::lock_guard lock(mutex_);
  std::set<pid_t> pids;
  for (const auto& [pid, event] : alive_) pids.insert(pid);
  return pids;
}

int worker_roster::ups() const {
  std::lock_guard lock(mutex_);
  return ups_;
}

std::vector<process_event> worker_roster::downs() const {
  std::lock_guard lock(mutex_);
  return downs_;
}

template <class Condition>
bool worker_roster::wait(Condition condition) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(60), condition);
}

bool worker_roster::wait_for_alive(std::size_t count) const {
  return wait([&] { return alive_.size() == count; });
}
bool worker_roster::wait_for_ups(int count) const {
  return wait([&] { return ups_ >= count; });
}
bool worker_roster::wait_for_downs(std::size_t count) const {
  return wait([&] { return downs_.size() >= count; });
}

bool worker_roster::kill_one() {
  std::lock_guard lock(mutex_);
  if (alive_.empty()) return false;
  const auto at = static_cast<std::ptrdiff_t>(random_() % alive_.size());
  return signal_family(::getpid(), std::next(alive_.begin(), at)->first, SIGKILL);
}

}  // namespace carom::test

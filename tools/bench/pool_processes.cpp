// SPDX-License-Identifier: BSL-1.0
#include "pool_processes.hpp"

#include <chrono>
#include <stdexcept>

#include "proc_files.hpp"

namespace bench {

carom::pool_options pool_processes::options(int workers) const {
  carom::pool_options made{.processes = workers};
  made.on_process_up = [state = state_](const carom::process_event& event) {
    const std::lock_guard lock(state->mutex);
    state->up.insert(event.pid);
    state->changed.notify_all();
  };
  made.on_process_down = [state = state_](const carom::process_event& event) {
    const std::lock_guard lock(state->mutex);
    state->up.erase(event.pid);
  };
  return made;
}

std::vector<pid_t> pool_processes::workers(int count) const {
  std::unique_lock lock(state_->mutex);
  const auto enough = [&] { return state_->up.size() >= static_cast<std::size_t>(count); };
  if (!state_->changed.wait_for(lock, std::chrono::seconds(30), enough))
    throw std::runtime_error("workers do not come up");
  return {state_->up.begin(), state_->up.end()};
}

std::vector<pid_t> pool_processes::all(int count) const {
  const pid_t forker = parent_of(workers(count).front());
  const pid_t keeper = parent_of(forker);
  std::vector<pid_t> found = descendants_of(keeper);
  found.push_back(keeper);
  return found;
}

}  // namespace bench

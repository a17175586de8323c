// SPDX-License-Identifier: BSL-1.0
#include "runtime/process_state.hpp"

#include <unistd.h>

#include <atomic>

#include "runtime/child_main.hpp"
#include "runtime/child_process.hpp"
#include "runtime/modules.hpp"

namespace carom::runtime {
namespace {

child_hooks& registered_worker_hooks() {
  static child_hooks hooks;
  return hooks;
}

}  // namespace

process_state& process_state::instance() {
  struct owned {
    pid_t owner = ::getpid();
    process_state state;
  };
  // A forked copy leaves the inherited state alone: its lock may be held by a thread that is not
  // there, and the processes it speaks of are another's children.
  static std::atomic<owned*> current{new owned};
  owned* found = current.load(std::memory_order_acquire);
  while (found->owner != ::getpid()) {
    auto* fresh = new owned;
    if (current.compare_exchange_strong(found, fresh, std::memory_order_acq_rel))
      found = fresh;
    else
      delete fresh;
  }
  return found->state;
}

void process_state::start_fork_server() {
  if (server && !server->contact_lost()) return;
  scan_modules();
  const std::size_t known = module_count();
  server = fork_server::start(current_child_hooks());
  server_modules = known;
}

void set_worker_hooks(child_hooks hooks) { registered_worker_hooks() = hooks; }
child_hooks worker_hooks() { return registered_worker_hooks(); }
child_hooks current_child_hooks() {
  return {registered_worker_hooks().boot, &run_child, forkserver_preload()};
}

}  // namespace carom::runtime

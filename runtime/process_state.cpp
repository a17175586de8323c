// SPDX-License-Identifier: BSL-1.0
#include "runtime/process_state.hpp"

#include <unistd.h>

#include <atomic>

#include "runtime/modules.hpp"

namespace carom::runtime {
namespace {

child_hooks& registered_hooks() {
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
  server_modules = module_count();
  server = fork_server::start(registered_hooks());
}

void set_child_hooks(child_hooks hooks) { registered_hooks() = hooks; }
child_hooks current_child_hooks() { return registered_hooks(); }

}  // namespace carom::runtime

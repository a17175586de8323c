// SPDX-License-Identifier: BSL-1.0
#include "runtime/process_state.hpp"

#include <unistd.h>

#include <atomic>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <exception>
#include <string>

#include "runtime/child_main.hpp"
#include "runtime/child_process.hpp"
#include "runtime/modules.hpp"

namespace carom::runtime {
namespace {

struct owned_state {
  pid_t owner = ::getpid();
  process_state state;
};

/// A forked copy leaves the inherited state alone: its lock may be held by a thread that is not
/// there, and the processes it speaks of are another's children.
constinit std::atomic<owned_state*> current_state = nullptr;

CAROM_START_PATH child_hooks& registered_worker_hooks() {
  static child_hooks hooks;
  return hooks;
}

}  // namespace

process_state& process_state::instance() {
  owned_state* found = current_state.load(std::memory_order_acquire);
  while (!found || found->owner != ::getpid()) {
    auto* fresh = new owned_state;
    if (current_state.compare_exchange_strong(found, fresh, std::memory_order_acq_rel))
      found = fresh;
    else
      delete fresh;
  }
  return found->state;
}

CAROM_START_PATH process_state* process_state::existing() noexcept {
  owned_state* const found = current_state.load(std::memory_order_acquire);
  return found && found->owner == ::getpid() ? &found->state : nullptr;
}

void process_state::start_fork_server() {
  drop_closed_server();
  if (server && !server->contact_lost()) return;
  scan_modules();
  const std::size_t known = module_count();
  try {
    server = fork_server::start(current_child_hooks());
  } catch (const start_method_error& e) {
    if (!server_closed) throw;
    std::throw_with_nested(start_method_error(
        std::string("carom: the descriptor of the fork server was closed by this program, as "
                    "closefrom(3) does, and no new one can start: ") +
        e.what()));
  }
  server_modules = known;
  server_closed = false;
}

void process_state::drop_closed_server() noexcept {
  if (!server || !runtime.expired() || server->intact()) return;
  server.reset();
  server_closed = true;
}

void set_worker_hooks(child_hooks hooks) { registered_worker_hooks() = hooks; }
CAROM_START_PATH child_hooks worker_hooks() { return registered_worker_hooks(); }
child_hooks current_child_hooks() {
  return {registered_worker_hooks().boot, &run_child, forkserver_preload()};
}

}  // namespace carom::runtime

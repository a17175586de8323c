// SPDX-License-Identifier: BSL-1.0
#include "actors/worker.hpp"

#include <unistd.h>

#include <caf/all.hpp>
#include <deque>

#include "runtime/crash_report.hpp"
#include "runtime/own_process.hpp"
#include "runtime/process_state.hpp"
#include "runtime/worker_session.hpp"

namespace carom::actors {
namespace {

using work_atom = caf::atom_constant<caf::atom("work")>;

/// An actor system without threads; made once in the forker, inherited by each worker.
struct quiet_system {
  struct config : caf::actor_system_config {
    config() { set("scheduler.policy", caf::atom("testing")); }
  };
  config settings;
  caf::actor_system system{settings};
  pid_t owner = ::getpid();
};

quiet_system* inherited_system = nullptr;

/// The worker's main thread as an execution unit.
class main_thread final : public caf::execution_unit {
 public:
  explicit main_thread(caf::actor_system& system) : execution_unit(&system) {}

  void exec_later(caf::resumable* job) override { jobs_.push_back(job); }

  void run() {
    while (!jobs_.empty()) {
      caf::resumable* job = jobs_.front();
      jobs_.pop_front();
      const auto state = job->resume(this, 1);
      if (state == caf::resumable::resume_later)
        jobs_.push_back(job);
      else if (state != caf::resumable::shutdown_execution_unit)
        caf::intrusive_ptr_release(job);
    }
  }

 private:
  std::deque<caf::resumable*> jobs_;
};

/// The worker: told that there is work, it runs what its page holds.
class worker final : public caf::event_based_actor {
 public:
  worker(caf::actor_config& config, main_thread& unit, runtime::worker_session* session)
      : event_based_actor(config), unit_(&unit), session_(session) {}

  const char* name() const override { return "carom.worker"; }
  caf::behavior make_behavior() override {
    return {[this](work_atom) {
      if (session_) session_->run_tasks();
    }};
  }
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) override {
    event_based_actor::enqueue(std::move(what), unit_);
  }

 private:
  main_thread* unit_;
  runtime::worker_session* session_;
};

/// An actor that lives as a worker's does, up to its first message.
void rehearse(caf::actor_system& system) {
  main_thread unit(system);
  caf::actor_config config{&unit};
  const caf::actor self = system.spawn_class<worker, caf::no_spawn_options>(config, unit, nullptr);
  unit.run();
  caf::anon_send(self, work_atom::value);
  unit.run();
  caf::anon_send_exit(self, caf::exit_reason::kill);
  unit.run();
}

void boot() {
  runtime::prepare_crash_reports();
  if (!inherited_system) inherited_system = new quiet_system;
  runtime::worker_session::rehearse();
  rehearse(inherited_system->system);
}

void run_worker(runtime::channel to_host) {
  // A worker forked straight from the host has no such system, or one that is not its own.
  if (!inherited_system) inherited_system = new quiet_system;
  caf::actor_system& system = inherited_system->system;
  runtime::worker_session session(std::move(to_host));
  session.start();
  main_thread unit(system);
  caf::actor_config config{&unit};
  const caf::actor self = system.spawn_class<worker, caf::no_spawn_options>(config, unit, &session);
  unit.run();
  while (session.wait()) {
    caf::anon_send(self, work_atom::value);
    unit.run();
  }
  session.finish_up();
  runtime::end_in_order();
  runtime::worker_session::leave(0);
}

}  // namespace

void provide_workers() {
  // Before main, in whatever program this file is linked into: a pool may come after the fork
  // server, and in a program that was spawned the fork server is another's.
  [[maybe_unused]] static const bool provided = [] {
    runtime::set_worker_hooks({&boot, &run_worker});
    return true;
  }();
}

namespace {
[[maybe_unused]] const bool before_main = (provide_workers(), true);
}

}  // namespace carom::actors

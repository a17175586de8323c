// SPDX-License-Identifier: BSL-1.0
#include "actors/worker.hpp"

#include <caf/all.hpp>
#include <carom/detail/start_path.hpp>
#include <deque>
#include <optional>

#include "runtime/crash_report.hpp"
#include "runtime/own_process.hpp"
#include "runtime/process_state.hpp"
#include "runtime/worker_session.hpp"

namespace carom::actors {
namespace {

using work_atom = caf::atom_constant<caf::atom("work")>;

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
  worker(caf::actor_config& config, main_thread& unit, runtime::worker_session** session)
      : event_based_actor(config), unit_(&unit), session_(session) {}

  const char* name() const override { return "carom.worker"; }
  caf::behavior make_behavior() override {
    return {[this](work_atom) {
      if (*session_) (*session_)->run_tasks();
    }};
  }
  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) override {
    event_based_actor::enqueue(std::move(what), unit_);
  }

 private:
  main_thread* unit_;
  runtime::worker_session** session_;
};

/// An actor system without threads, and the worker in it; made once in the forker, where it has
/// nothing to do, and inherited by each worker.
class inherited_worker {
 public:
  inherited_worker() {
    settings_.set("scheduler.policy", caf::atom("testing"));
    system_.emplace(settings_);
    unit_.emplace(*system_);
    caf::actor_config config{&*unit_};
    self_ = system_->spawn_class<worker, caf::no_spawn_options>(config, *unit_, &session_);
    work();
    // A thread that ends lets its logger go, the main thread of a new process too, and that would
    // be its first use of CAF.
    caf::logger::set_current_actor_system(nullptr);
  }

  void serve(runtime::worker_session& session) {
    session_ = &session;
    while (session.wait()) work();
  }
  bool serves() const noexcept { return session_ != nullptr; }

 private:
  void work() {
    caf::anon_send(self_, work_atom::value);
    unit_->run();
  }

  caf::actor_system_config settings_;
  std::optional<caf::actor_system> system_;
  std::optional<main_thread> unit_;
  caf::actor self_;
  runtime::worker_session* session_ = nullptr;
};

/// A worker forked straight from the host has inherited none, and one that a worker has forked has
/// one that is at work. Never destroyed: a worker leaves without.
CAROM_START_PATH inherited_worker& fresh_worker() {
  static inherited_worker* one = nullptr;
  if (!one || one->serves()) one = new inherited_worker;
  return *one;
}

void boot() {
  runtime::prepare_crash_reports();
  fresh_worker();
  runtime::worker_session::rehearse();
}

CAROM_START_PATH void run_worker(runtime::channel to_host) {
  inherited_worker& self = fresh_worker();
  runtime::worker_session session(std::move(to_host));
  session.start();
  self.serve(session);
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

// SPDX-License-Identifier: BSL-1.0
#include "actors/actor_runtime.hpp"

#include <caf/all.hpp>
#include <caf/scheduler/abstract_coordinator.hpp>

#include "actors/caf_visit.hpp"

namespace carom::actors {

struct actor_runtime::own_system {
  struct config : caf::actor_system_config {
    config() {
      // Work stealing wakes up 99 times a second to look for work; sharing sleeps.
      set("scheduler.policy", caf::atom("sharing"));
      set("scheduler.max-threads", std::size_t{1});
    }
  };
  config settings;
  caf::actor_system system{settings};
};

void loop_unit::exec_later(caf::resumable* job) {
  if (!dynamic_cast<loop_resident*>(job)) return system().scheduler().enqueue(job);
  struct scheduled {
    loop_unit* unit;
    caf::resumable* job;
  };
  // One allocation for a whole batch of messages.
  events_->post(
      [](void* argument) {
        const std::unique_ptr<scheduled> one(static_cast<scheduled*>(argument));
        constexpr std::size_t most_messages = 300;
        switch (one->job->resume(one->unit, most_messages)) {
          case caf::resumable::resume_later: one->unit->exec_later(one->job); break;
          case caf::resumable::awaiting_message:
          case caf::resumable::done: caf::intrusive_ptr_release(one->job); break;
          default: break;
        }
      },
      new scheduled{this, job});
}

actor_runtime::actor_runtime(std::shared_ptr<runtime::host_runtime> host, caf::actor_system& system)
    : unit_(std::make_unique<loop_unit>(system, host->events())),
      host_(std::move(host)),
      system_(&system) {}

actor_runtime::actor_runtime(std::shared_ptr<runtime::host_runtime> host,
                             std::shared_ptr<own_system> own)
    : unit_(std::make_unique<loop_unit>(own->system, host->events())),
      host_(std::move(host)),
      own_(std::move(own)),
      system_(&own_->system) {}

actor_runtime::~actor_runtime() = default;

std::shared_ptr<actor_runtime> actor_runtime::with_own_system(
    std::shared_ptr<runtime::host_runtime> host) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  if (auto found = std::static_pointer_cast<actor_runtime>(host->attachment.lock())) return found;
  auto& attachment = host->attachment;
  const caf_visit visit;
  std::shared_ptr<actor_runtime> made(
      new actor_runtime(std::move(host), std::make_shared<own_system>()));
  attachment = made;
  return made;
}

}  // namespace carom::actors

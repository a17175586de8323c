// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/execution_unit.hpp>
#include <memory>

#include "runtime/host_runtime.hpp"

namespace carom::actors {

/// Marks the actors that run on the loop's thread and nowhere else.
class loop_resident {
 protected:
  loop_resident() = default;
  loop_resident(const loop_resident&) = delete;
  loop_resident& operator=(const loop_resident&) = delete;
  virtual ~loop_resident() = default;
};

/// An execution unit that is the loop. Whom its residents write to does not run on it: that is the
/// application's, and may take its time.
class loop_unit final : public caf::execution_unit {
 public:
  loop_unit(caf::actor_system& system, runtime::loop& events)
      : execution_unit(&system), events_(&events) {}
  void exec_later(caf::resumable* job) override;

 private:
  runtime::loop* events_;
};

/// A pool's surroundings: the host's loop, and the actor system that its supervisor belongs to.
class actor_runtime {
 public:
  /// With the application's system.
  actor_runtime(std::shared_ptr<runtime::host_runtime> host, caf::actor_system& system);
  /// With carom's own, shared by all pools that have no other.
  static std::shared_ptr<actor_runtime> with_own_system(
      std::shared_ptr<runtime::host_runtime> host);
  ~actor_runtime();

  runtime::host_runtime& host() noexcept { return *host_; }
  runtime::loop& events() noexcept { return host_->events(); }
  caf::actor_system& system() noexcept { return *system_; }
  loop_unit& unit() noexcept { return *unit_; }

 private:
  struct own_system;
  explicit actor_runtime(std::shared_ptr<runtime::host_runtime> host,
                         std::shared_ptr<own_system> own);

  // In this order: the system waits for its actors, then the loop's thread is joined, and only
  // then nobody runs on the unit any more.
  std::unique_ptr<loop_unit> unit_;
  std::shared_ptr<runtime::host_runtime> host_;
  std::shared_ptr<own_system> own_;
  caf::actor_system* system_;
};

}  // namespace carom::actors

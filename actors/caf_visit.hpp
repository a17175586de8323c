// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <caf/logger.hpp>

namespace carom::actors {

/// Around what a thread does with an actor system that is not its own. CAF keeps, per thread, a
/// reference to the logger of the system in which the thread has last made an actor, and a system's
/// end waits until nobody has its logger: a thread that goes on to live would hold it up for ever.
class caf_visit {
 public:
  caf_visit() = default;
  caf_visit(const caf_visit&) = delete;
  caf_visit& operator=(const caf_visit&) = delete;
  ~caf_visit() {
    if (caf::logger::current_logger() != before_) caf::logger::set_current_actor_system(nullptr);
  }

 private:
  const caf::logger* const before_ = caf::logger::current_logger();
};

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#include "tests/shared/kills.hpp"

#include <chrono>

#ifdef __SANITIZE_THREAD__
/// Misuse of locks is what these tests do, and what carom answers with an error.
extern "C" const char* __tsan_default_options() { return "report_mutex_bugs=0"; }
#endif

namespace carom::test {

void seeded::pause(std::uint64_t most_us) {
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::microseconds(below(most_us + 1));
  while (std::chrono::steady_clock::now() < until) {
  }
}

}  // namespace carom::test

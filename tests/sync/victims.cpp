// SPDX-License-Identifier: BSL-1.0
#include "tests/sync/victims.hpp"

#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>

#include "tests/support/eventually.hpp"

#ifdef __SANITIZE_THREAD__
/// Misuse of locks is what these tests do, and what carom answers with an error.
extern "C" const char* __tsan_default_options() { return "report_mutex_bugs=0"; }
#endif

namespace carom::test {
namespace {

forked start(const std::function<void()>& step) {
  return forked([&step]() -> bool {
    for (;;) step();
  });
}

}  // namespace

int kills(int few, int many) { return std::getenv("CAROM_FULL") ? many : few; }

std::uint64_t chosen_seed() {
  if (const char* const given = std::getenv("CAROM_SEED")) return std::stoull(given);
  return std::random_device{}();
}

void victims::add(std::function<void()> step) {
  forked process = start(step);
  running_.push_back({std::move(step), std::move(process)});
}

void victims::kill_one() {
  let_pass(std::chrono::nanoseconds(random_() % 400'000));
  victim& one = running_[random_() % running_.size()];
  one.process.kill();
  one.process = start(one.step);
}

bool goes_on(const std::function<std::uint64_t()>& counter) {
  const std::uint64_t now = counter();
  return eventually([&] { return counter() != now; });
}

}  // namespace carom::test

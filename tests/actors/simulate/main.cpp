// SPDX-License-Identifier: BSL-1.0
// simulate_supervisor [--count N] [--first SEED] [--seed SEED]: runs schedules of the simulated
// supervisor and says what they met. Fails with the first seed that breaks a promise.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/actors/schedules.hpp"

namespace {

int usage() {
  std::fprintf(stderr, "usage: simulate_supervisor [--count N] [--first SEED] [--seed SEED]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace carom::test;
  std::uint64_t first = 1, count = 100'000;
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) return usage();
    const std::string_view option = argv[i];
    char* end = nullptr;
    const std::uint64_t value = std::strtoull(argv[i + 1], &end, 10);
    if (end == argv[i + 1] || *end != 0) return usage();
    if (option == "--count") {
      count = value;
    } else if (option == "--first") {
      first = value;
    } else if (option == "--seed") {
      first = value;
      count = 1;
    } else {
      return usage();
    }
  }

  const auto began = std::chrono::steady_clock::now();
  const schedules all = run_schedules(first, count);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  std::printf("%llu schedules in %.1f s\n", static_cast<unsigned long long>(all.ran), took.count());
  for (std::size_t i = 0; i < met_names.size(); ++i)
    std::printf("%12llu %s\n", static_cast<unsigned long long>(all.seen[static_cast<met>(i)]),
                met_names[i]);
  if (!all.failed) return 0;
  std::printf("%s\nreplay: simulate_supervisor --seed %llu\n", all.failed->what.c_str(),
              static_cast<unsigned long long>(all.failed->seed));
  return 1;
}

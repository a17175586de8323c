// SPDX-License-Identifier: BSL-1.0
#include "tests/actors/schedules.hpp"

#include "tests/actors/simulation.hpp"

namespace carom::test {

std::vector<std::string> schedules::hardly_met() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < met_names.size(); ++i)
    if (const std::uint64_t times = seen[static_cast<met>(i)]; times < ran / 100)
      names.push_back(std::string(met_names[i]) + ": " + std::to_string(times));
  return names;
}

schedules run_schedules(std::uint64_t first, std::uint64_t count) {
  schedules all;
  for (std::uint64_t seed = first; all.ran != count; ++seed) {
    simulation schedule(seed);
    try {
      schedule.run();
    } catch (const broken_promise& e) {
      all.failed = {seed, e.what()};
      return all;
    }
    ++all.ran;
    all.seen += schedule.seen();
  }
  return all;
}

}  // namespace carom::test

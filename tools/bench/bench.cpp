// SPDX-License-Identifier: BSL-1.0
#include "bench.hpp"

#include <iostream>

#include "report.hpp"

namespace bench {

contender run::against(peer_id peer, const std::string& request, int count,
                       std::optional<target> goal) {
  return {name_of(peer),
          [=, this] { return peers_.get(peer).ask(request + " " + std::to_string(count)).at(0); },
          std::move(goal)};
}

contender run::limit(const std::string& name, const std::string& request, int count,
                     std::optional<target> goal) {
  contender made = against(peer_id::limits, request, count, std::move(goal));
  made.name = "limit: " + name;
  return made;
}

figure run::measure(const std::string& name, unit measure, const std::function<double()>& carom,
                    std::vector<contender> others, std::optional<target> goal) {
  figure measured{name, measure, {}, std::move(goal)};
  for (const contender& other : others)
    measured.comparisons.push_back({other.name, {}, other.goal});
  if (!smoke()) carom();
  for (int repetition = 0; repetition < repetitions(); ++repetition) {
    measured.values.add(carom());
    for (std::size_t i = 0; i < others.size(); ++i) {
      comparison& against = measured.comparisons[i];
      if (!against.missing.empty()) continue;
      try {
        against.values.add(others[i].measure());
      } catch (const peer_missing& reason) {
        against.values = {};
        against.missing = reason.what();
      }
    }
  }
  report(measured);
  return measured;
}

void run::report(const figure& measured) {
  const auto judge = smoke() ? judgement::not_judged : judgement::judged;
  if (settings_.json)
    print_json(std::cout, measured, judge);
  else
    print_table(std::cout, measured, judge);
}

}  // namespace bench

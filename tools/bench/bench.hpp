// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "figure.hpp"
#include "peers.hpp"

namespace bench {

struct settings {
  int repetitions = 5;
  int workers = 2;
  bool smoke = false;        // tiny sizes: checks that it works, not how fast
  bool ten_million = false;  // `scaling` goes up to 10^7 tasks
  bool json = false;
};

/// What is measured beside carom in each repetition.
struct contender {
  std::string name;
  std::function<double()> measure;
  std::optional<target> goal{};  // for carom's value over its value
};

/// A run of the bench: rows measure through it and report to it.
class run {
 public:
  explicit run(const settings& chosen) : settings_(chosen), peers_(chosen.workers) {}

  int workers() const noexcept { return settings_.workers; }
  int repetitions() const noexcept { return settings_.smoke ? 1 : settings_.repetitions; }
  bool smoke() const noexcept { return settings_.smoke; }
  bool ten_million() const noexcept { return settings_.ten_million; }
  /// How many of something to do.
  int size(int full, int smoke) const noexcept { return settings_.smoke ? smoke : full; }

  peer_set& peers() noexcept { return peers_; }
  /// A peer asked for `request`, which is followed by `count`.
  contender against(peer_id peer, const std::string& request, int count,
                    std::optional<target> goal = {});
  /// The same for a limit of the machine, under a name of its own.
  contender limit(const std::string& name, const std::string& request, int count,
                  std::optional<target> goal = {});

  /// Repeats carom's measurement, each time followed by the others, after one repetition of
  /// carom's that does not count. Reports and returns the figure.
  figure measure(const std::string& name, unit measure, const std::function<double()>& carom,
                 std::vector<contender> others, std::optional<target> goal = {});
  void report(const figure& measured);

 private:
  settings settings_;
  peer_set peers_;
};

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#include <signal.h>

#include <CLI/CLI.hpp>
#include <carom/init.hpp>
#include <exception>
#include <iostream>
#include <thread>

#include "rows.hpp"
#include "self_peers.hpp"
#include "soak.hpp"

namespace {

constexpr int usage_error = 2;

void list_rows(std::ostream& out) {
  for (const bench::row& each : bench::all_rows())
    out << "  " << each.name << std::string(16 - std::string_view(each.name).size(), ' ')
        << each.summary << "\n";
}

void print_heading(const bench::settings& chosen) {
  std::cout << "carom-bench: " << chosen.workers << " workers, "
            << std::thread::hardware_concurrency() << " CPUs, "
            << (chosen.smoke ? 1 : chosen.repetitions)
            << " repetitions; values are medians (least – most), ratios carom / peer\n";
#ifndef __OPTIMIZE__
  std::cout << "This is not an optimized build: only the release preset's figures count.\n";
#endif
}

/// Rows go on after one that fails; says whether all worked.
bool measure(bench::run& run, const std::vector<const bench::row*>& chosen, bool json) {
  bool worked = true;
  for (const bench::row* row : chosen) {
    if (!json) std::cout << "\n" << row->name << ": " << row->summary << std::endl;
    try {
      row->measure(run);
    } catch (const std::exception& error) {
      std::cerr << "carom-bench: row " << row->name << " failed: " << error.what() << std::endl;
      worked = false;
    }
  }
  return worked;
}

}  // namespace

int main(int argc, char** argv) {
  // A peer is measured without carom in its process.
  if (const auto status = bench::run_self_peer(argc, argv)) return *status;
  if (argc > 1 && std::string_view(argv[1]) == "soak") bench::prepare_soak();
  carom::init(argc, argv);
  signal(SIGPIPE, SIG_IGN);  // a peer that died is an error of write()

  if (argc > 1 && std::string_view(argv[1]) == "soak") return bench::soak(argc - 1, argv + 1);
  bench::settings chosen;
  std::vector<std::string> names;
  bool list = false;
  CLI::App app{
      "Measures carom beside its peers and the machine's limits. `carom-bench soak` is a test of "
      "endurance, with options of its own."};
  app.add_option("row", names, "Rows to measure; all by default");
  app.add_flag("--json", chosen.json, "Print JSON lines instead of tables");
  app.add_option("--repetitions", chosen.repetitions, "Repetitions of each measurement")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--workers", chosen.workers, "Workers of pools whose row does not say how many")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_flag("--smoke", chosen.smoke, "Check quickly that all rows work; judge nothing");
  app.add_flag("--long", chosen.ten_million, "Let scaling go up to 10,000,000 tasks");
  app.add_flag("--list", list, "Print the rows and what they measure");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : usage_error;
  }

  if (list) {
    list_rows(std::cout);
    return 0;
  }
  std::vector<const bench::row*> rows;
  for (const std::string& name : names) {
    rows.push_back(bench::find_row(name));
    if (rows.back()) continue;
    std::cerr << "carom-bench: there is no row `" << name << "`. Rows are:\n";
    list_rows(std::cerr);
    return usage_error;
  }
  if (rows.empty())
    for (const bench::row& each : bench::all_rows()) rows.push_back(&each);

  if (!chosen.json) print_heading(chosen);
  bench::run run(chosen);
  return measure(run, rows, chosen.json) ? 0 : 1;
}

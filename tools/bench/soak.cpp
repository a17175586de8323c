// SPDX-License-Identifier: BSL-1.0
#include "soak.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <carom/carom.hpp>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "proc_files.hpp"
#include "soak_tasks.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

struct soak_options {
  int seconds = 60;
  std::uint64_t seed = 1;
  int workers = 4;
  double kills = 20;
  double server_kills = 2;
};

bool is_ours(const std::filesystem::path& process) {
  std::ifstream maps(process / "maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(soak_tasks::board_name()) != std::string::npos) return true;
  return false;
}

/// Processes of the test that live, itself and the fork servers included.
std::size_t count_processes() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (std::isdigit(static_cast<unsigned char>(name[0])) && is_ours(entry.path())) ++count;
  }
  return count;
}

std::size_t count_descriptors() {
  return static_cast<std::size_t>(std::distance(
      std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator{}));
}

std::size_t count_shared_mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    const auto rights = line.find(' ');
    count += line.size() > rights + 4 && line[rights + 4] == 's';
  }
  return count;
}

struct holdings {
  std::size_t descriptors = count_descriptors();
  std::size_t processes = count_processes();
  std::size_t mappings = count_shared_mappings();
};

/// The books of all threads.
struct tally {
  std::mutex mutex;
  std::map<std::string, std::uint64_t> outcomes;
  std::atomic<std::uint64_t> tasks{0}, lost{0}, duplicated{0}, hung{0};
  std::atomic<std::uint64_t> kills{0}, stops{0}, server_kills{0};

  void add(const std::string& outcome) {
    const std::lock_guard lock(mutex);
    ++outcomes[outcome];
  }
  /// Something that must not be, told at once.
  void complain(std::atomic<std::uint64_t>& count, const std::string& what) {
    ++count;
    const std::lock_guard lock(mutex);
    std::cerr << "soak: " << what << std::endl;
  }
};

std::string type_of_error(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const carom::time_limit_exceeded&) {
    return "time_limit_exceeded";
  } catch (const carom::soft_time_limit_exceeded&) {
    return "soft_time_limit_exceeded";
  } catch (const carom::worker_lost&) {
    return "worker_lost";
  } catch (const carom::terminated&) {
    return "terminated";
  } catch (const carom::timeout_error&) {
    return "timeout_error";
  } catch (const std::out_of_range&) {
    return "out_of_range";
  } catch (const std::exception& e) {
    return std::string("unexpected: ") + e.what();
  }
}

/// One task under way: how to wait for it, and what it may end in beside worker_lost, which may
/// happen to anybody here.
struct under_way {
  std::uint64_t number;
  std::string kind;
  std::function<bool()> wait;           // false: it has not ended in time
  std::function<std::string()> settle;  // "value", or the error's type
  std::string expected;
  bool ended_by_us = false;  // cancelled or terminated: that outcome is right as well
};

class submitter {
 public:
  submitter(carom::pool& pool, tally& books, std::uint64_t seed,
            std::atomic<std::uint64_t>& numbers)
      : pool_(pool), books_(books), random_(seed), numbers_(numbers) {}

  void run(clock::time_point until) {
    while (clock::now() < until) {
      while (tasks_.size() < most) begin_one();
      end_one();
    }
    while (!tasks_.empty()) end_one();
  }

 private:
  static constexpr std::size_t most = 64;

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  template <class R, class Good>
  void add(std::uint64_t number, const char* kind, std::string expected,
           carom::async_result<R> result, Good good) {
    under_way task;
    task.number = number;
    task.kind = kind;
    task.expected = std::move(expected);
    // Some are ended by the host, at whatever point they are.
    const std::uint64_t fate = below(60);
    if (fate == 0) task.ended_by_us = result.cancel();
    if (fate == 1) task.ended_by_us = result.terminate(below(2) ? SIGTERM : SIGKILL);
    task.wait = [result] { return result.wait(60s); };
    task.settle = [result, good]() -> std::string {
      try {
        if constexpr (std::is_void_v<R>) {
          result.get();
          return good() ? "value" : "unexpected: a wrong value";
        } else {
          return good(result.get()) ? "value" : "unexpected: a wrong value";
        }
      } catch (...) {
        return type_of_error(std::current_exception());
      }
    };
    tasks_.push_back(std::move(task));
  }

  void begin_one() {
    const std::uint64_t n = ++numbers_;
    const auto any = [](auto&&...) { return true; };
    const auto none = [](auto&&...) { return false; };
    const std::uint64_t kind = below(100);
    if (kind < 60) {
      const int x = static_cast<int>(below(1000));
      add(n, "quick", "value", pool_.apply_async(soak_tasks::quick, n, x),
          [x](int got) { return got == (x ^ 1); });
    } else if (kind < 70) {
      const int ms = static_cast<int>(1 + below(30));
      add(n, "slow", "value", pool_.apply_async(soak_tasks::slow, n, ms),
          [ms](int got) { return got == ms; });
    } else if (kind < 73) {
      constexpr std::array signals{SIGSEGV, SIGABRT, SIGKILL, SIGFPE};
      add(n, "crashes", "worker_lost",
          pool_.apply_async(soak_tasks::crashes, n, signals[below(signals.size())]), none);
    } else if (kind < 76) {
      const std::size_t bytes = (1 + below(4)) << 20;
      add(n, "leaks", "value", pool_.apply_async(soak_tasks::leaks, n, bytes),
          [bytes](std::size_t got) { return got == bytes; });
    } else if (kind < 78) {
      add(n, "deaf", "time_limit_exceeded",
          pool_.apply_async({.time_limit = 30ms}, soak_tasks::deaf, n), none);
    } else if (kind < 80) {
      add(n, "children", "value", pool_.apply_async(soak_tasks::has_children, n), any);
    } else if (kind < 83) {
      std::string bytes(8 << 20, static_cast<char>('a' + n % 26));
      auto result = pool_.apply_async(soak_tasks::echoes, n, bytes);
      add(n, "echoes", "value", std::move(result), [c = bytes[0]](const std::string& got) {
        return got.size() == 8 << 20 && got.front() == c && got.back() == c;
      });
    } else if (kind < 90) {
      add(n, "throws", "out_of_range", pool_.apply_async(soak_tasks::throws, n), none);
    } else if (kind < 93) {
      add(n, "soft", "soft_time_limit_exceeded",
          pool_.apply_async({.soft_time_limit = 20ms}, soak_tasks::waits_softly, n), none);
    } else if (kind < 94) {
      add(n, "leaves", "worker_lost", pool_.apply_async(soak_tasks::leaves, n, 3), none);
    } else {
      std::vector<int> items(1 + below(200));
      for (int& each : items) each = static_cast<int>(below(10'000));
      auto result = pool_.map_async({.time_limit = 10s}, soak_tasks::item, items, 1 + below(20));
      add(n, "map", "value", std::move(result), [items](const std::vector<int>& got) {
        for (std::size_t i = 0; i < items.size(); ++i)
          if (got.size() != items.size() || got[i] != (items[i] ^ 1)) return false;
        return true;
      });
    }
    ++books_.tasks;
  }

  void end_one() {
    const std::size_t which = below(tasks_.size());
    const under_way task = std::move(tasks_[which]);
    tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(which));
    const std::string name = task.kind + " " + std::to_string(task.number);
    if (!task.wait()) return books_.complain(books_.hung, name + " has not ended in 60 s");
    const std::string outcome = task.settle();
    books_.add(outcome);
    const std::uint32_t begun = soak_tasks::times_begun(task.number);
    if (begun > 1)
      books_.complain(books_.duplicated, name + " was begun " + std::to_string(begun) + " times");
    if (outcome == "value" && task.kind != "map" && begun != 1)
      books_.complain(books_.lost, name + " has a value and was never begun");
    // A stopped worker meets the pool's own time limit.
    const bool right = outcome == task.expected || outcome == "worker_lost" ||
                       outcome == "time_limit_exceeded" ||
                       (task.ended_by_us && outcome == "terminated");
    if (!right)
      books_.complain(books_.lost, name + " ended in " + outcome + " and not in " + task.expected);
  }

  carom::pool& pool_;
  tally& books_;
  std::mt19937_64 random_;
  std::atomic<std::uint64_t>& numbers_;
  std::deque<under_way> tasks_;
};

/// Kills and stops workers by their pidfds.
void torment_workers(carom::pool& pool, tally& books, double per_second, std::uint64_t seed,
                     std::stop_token stop) {
  std::mt19937_64 random(seed);
  std::deque<carom::worker_info> stopped;
  while (!stop.stop_requested()) {
    std::this_thread::sleep_for(std::chrono::duration<double>(1 / per_second));
    const auto workers = pool.workers();
    if (workers.empty()) continue;
    const auto& victim = workers[random() % workers.size()];
    if (victim.sentinel() < 0) continue;
    const bool stops = random() % 4 == 0;
    if (::syscall(SYS_pidfd_send_signal, victim.sentinel(), stops ? SIGSTOP : SIGKILL, nullptr,
                  0) == 0)
      ++(stops ? books.stops : books.kills);
    if (stops) stopped.push_back(victim);
    // Half of them go on after a while; the others are the pool's to find.
    if (stopped.size() > 4) {
      if (random() % 2 == 0)
        ::syscall(SYS_pidfd_send_signal, stopped.front().sentinel(), SIGCONT, nullptr, 0);
      stopped.pop_front();
    }
  }
}

/// The process of ours that goes by that name; 0 if there is none, or two: a handover is under way.
pid_t find_server(const std::string& name) {
  pid_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string number = entry.path().filename();
    if (!std::isdigit(static_cast<unsigned char>(number[0]))) continue;
    std::string comm;
    std::getline(std::ifstream(entry.path() / "comm"), comm);
    if (comm != name || !is_ours(entry.path())) continue;
    if (found != 0) return 0;
    found = std::stoi(number);
  }
  return found;
}

/// Kills keeper and forker in turn, but never the last of them: both at once are more than a pool
/// survives.
void torment_servers(tally& books, double per_second, std::stop_token stop) {
  bool keeper = false;
  while (!stop.stop_requested()) {
    std::this_thread::sleep_for(std::chrono::duration<double>(1 / per_second));
    const pid_t above = find_server("carom-keeper"), below = find_server("carom-forker");
    if (above == 0 || below == 0) continue;
    const pid_t victim = keeper ? above : below;
    if (::kill(victim, SIGKILL) != 0) continue;
    ++books.server_kills;
    // On a busy machine it has its name for a while yet, and is no survivor.
    while (is_ours("/proc/" + std::to_string(victim)) && !stop.stop_requested())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    keeper = !keeper;
  }
}

carom::pool_options options_of(const soak_options& chosen) {
  carom::pool_options options{.processes = chosen.workers};
  options.restarts.max_restarts = 1'000'000'000;
  options.max_tasks_per_child = 500;
  options.max_memory_per_child = 256u << 20;
  options.time_limit = 3s;
  options.kill_grace = 20ms;
  options.claim_deadline = 500ms;
  options.start_timeout = 5s;
  options.name = "soak";
  return options;
}

void soak_pool(const soak_options& chosen, tally& books) {
  std::atomic<std::uint64_t> numbers{0};
  carom::pool pool(options_of(chosen));
  {
    std::vector<std::jthread> threads;
    threads.emplace_back([&](std::stop_token stop) {
      torment_workers(pool, books, chosen.kills, chosen.seed * 7919, stop);
    });
    if (chosen.server_kills > 0)
      threads.emplace_back(
          [&](std::stop_token stop) { torment_servers(books, chosen.server_kills, stop); });
    std::vector<std::thread> submitters;
    const auto until = clock::now() + std::chrono::seconds(chosen.seconds);
    for (std::uint64_t i = 0; i < 2; ++i)
      submitters.emplace_back(
          [&, i] { submitter(pool, books, chosen.seed * 2 + i, numbers).run(until); });
    for (auto& each : submitters) each.join();
  }
  pool.close();
  try {
    pool.join(60s);
  } catch (const carom::timeout_error&) {
    books.complain(books.hung, "the pool has not ended 60 s after close()");
  }
}

}  // namespace

void prepare_soak() { soak_tasks::open_board(); }

int soak(int argc, char** argv) {
  soak_options chosen;
  CLI::App app{"Runs tasks of every kind while workers and fork servers are killed."};
  app.add_option("--seconds", chosen.seconds, "How long")->check(CLI::Range(1, 1'000'000));
  app.add_option("--seed", chosen.seed, "What chance begins with");
  app.add_option("--workers", chosen.workers, "Workers of the pool")->check(CLI::Range(1, 1024));
  app.add_option("--kills", chosen.kills, "Workers killed or stopped a second")
      ->check(CLI::Range(0.001, 10'000.0));
  app.add_option("--server-kills", chosen.server_kills, "Fork servers killed a second")
      ->check(CLI::Range(0.0, 1000.0));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  carom::log()->set_level(spdlog::level::critical);  // deaths are what this is about
  {
    carom::pool first({.processes = 1});  // what stays with the first pool is no leak
    first.apply(soak_tasks::quick, std::uint64_t{0}, 0);
  }
  const holdings before;
  tally books;
  soak_pool(chosen, books);
  const auto patience = clock::now() + 20s;
  holdings after;
  const auto more = [](std::size_t now, std::size_t then) { return now > then ? now - then : 0; };
  const auto leaked = [&] {
    return more(after.descriptors, before.descriptors) + more(after.processes, before.processes) +
           more(after.mappings, before.mappings);
  };
  for (; leaked() != 0 && clock::now() < patience; after = holdings{})
    std::this_thread::sleep_for(50ms);

  std::cout << "soak: " << chosen.seconds << " s, seed " << chosen.seed << ", " << chosen.workers
            << " workers\n"
            << "tasks " << books.tasks << ", workers killed " << books.kills << ", stopped "
            << books.stops << ", fork servers killed " << books.server_kills << "\noutcomes:";
  for (const auto& [outcome, count] : books.outcomes) std::cout << " " << outcome << " " << count;
  std::cout << "\nlost " << books.lost << ", duplicated " << books.duplicated << ", hung "
            << books.hung << ", leaked fds " << more(after.descriptors, before.descriptors)
            << ", leaked processes " << more(after.processes, before.processes)
            << ", leaked mappings " << more(after.mappings, before.mappings) << std::endl;
  if (chosen.server_kills * chosen.seconds > 20 && books.server_kills == 0) {
    std::cout << "no fork server could be killed" << std::endl;
    return 1;
  }
  return books.lost + books.duplicated + books.hung + leaked() == 0 ? 0 : 1;
}

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
// Everything that can go wrong with a task or a pool, and how one handles it. Each error comes as
// an exception of its own type; a pool outlives all of them but the last one.
#include <unistd.h>
#include <carom/carom.hpp>

#include <csignal>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

// An exception of our own comes back as itself once it is named here.
struct quota_exceeded : std::runtime_error {
  using std::runtime_error::runtime_error;
};
CAROM_EXCEPTION(quota_exceeded);

int spend(int amount) {
  if (amount > 100) throw quota_exceeded("at most 100, not " + std::to_string(amount));
  return amount;
}

int parse(const std::string& text) {
  try {
    return std::stoi(text);
  } catch (...) {
    std::throw_with_nested(std::runtime_error("cannot read \"" + text + "\" as a number"));
  }
}

int peek(std::uintptr_t address) { return *reinterpret_cast<const volatile int*>(address); }

struct half_open_file {  // a value that refuses to travel
  template <class Archive>
  void serialize(Archive&, unsigned) {
    throw std::logic_error("an open file cannot leave its process");
  }
};
half_open_file open_something() { return {}; }

void wait_for_signal() { ::pause(); }
void fail_to_start(const std::string& why) { throw std::runtime_error(why); }

void print_causes(const std::exception& e, int depth = 1) {
  std::cout << std::string(2 * static_cast<std::size_t>(depth), ' ') << e.what() << '\n';
  try {
    std::rethrow_if_nested(e);
  } catch (const std::exception& cause) {
    print_causes(cause, depth + 1);
  }
}

void errors_of_tasks(carom::pool& pool) {
  std::cout << "The task throws: the caller catches the same type.\n";
  try {
    pool.apply(spend, 250);
  } catch (const quota_exceeded& e) {
    print_causes(e);
  }

  std::cout << "What it was nested in comes along.\n";
  try {
    pool.apply(parse, "seven");
  } catch (const std::runtime_error& e) {
    print_causes(e);
  }

  std::cout << "The task crashes: its worker is replaced, the host lives.\n";
  try {
    pool.apply(peek, 0);
  } catch (const carom::worker_lost& e) {
    print_causes(e);
    std::cout << "  (" << e.task_name() << " ran in process " << e.pid() << ", signal "
              << e.signal() << ")\n";
  }

  std::cout << "A result cannot travel: that task fails, no other.\n";
  try {
    pool.apply(open_something);
  } catch (const carom::encoding_error& e) {
    print_causes(e);
  }

  std::cout << "A map throws the first error; try_map keeps every outcome.\n";
  for (const auto& outcome : pool.try_map(spend, std::vector{50, 150, 75})) {
    if (outcome) {
      std::cout << "  " << *outcome << '\n';
      continue;
    }
    try {
      outcome.value();
    } catch (const quota_exceeded& e) {
      print_causes(e);
    }
  }
}

void full_pool() {
  std::cout << "A pool that takes two tasks at a time refuses the third.\n";
  carom::pool pool{{.processes = 1, .max_pending = 2, .overflow = carom::overflow::reject}};
  const auto first = pool.apply_async(wait_for_signal);
  const auto second = pool.apply_async(wait_for_signal);
  try {
    pool.apply_async(spend, 1);
  } catch (const carom::queue_full& e) {
    print_causes(e);
  }
  // Leaving the scope terminates the pool; what was pending ends in carom::terminated.
}

void closed_pool() {
  std::cout << "After close no more tasks are taken; those submitted are finished.\n";
  carom::pool pool{{.processes = 1}};
  const auto last = pool.apply_async(spend, 5);
  pool.close();
  try {
    pool.apply_async(spend, 6);
  } catch (const carom::pool_closed& e) {
    print_causes(e);
  }
  pool.join();
  std::cout << "  the task before it gave " << last.get() << '\n';
}

void pool_that_cannot_start() {
  std::cout << "Workers that keep failing to start stop the pool, with the cause.\n";
  carom::pool pool{
      {.processes = 1, .initializer = carom::call(fail_to_start, "no licence for this machine")}};
  try {
    pool.apply(spend, 1);
  } catch (const carom::restart_freq_exceeded& e) {
    print_causes(e);
  } catch (const carom::pool_closed& e) {  // if the pool had stopped before the call
    print_causes(e);
  }
}

int main(int argc, char** argv) {
  carom::init(argc, argv);
  carom::pool pool{{.processes = 2}};
  errors_of_tasks(pool);
  full_pool();
  closed_pool();
  pool_that_cannot_start();
  std::cout << "The first pool still works: " << pool.apply(spend, 42) << '\n';
}

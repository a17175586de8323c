// SPDX-License-Identifier: BSL-1.0
#include "runtime/worker_limits.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <system_error>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {

std::uint64_t memory_of(int statm) noexcept {
  std::array<char, 128> text{};
  const ssize_t length = ::pread(statm, text.data(), text.size() - 1, 0);
  if (length <= 0) return 0;
  char* at = text.data();
  std::strtoull(at, &at, 10);  // size
  const std::uint64_t resident = std::strtoull(at, &at, 10);
  const std::uint64_t shared = std::strtoull(at, &at, 10);
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return resident > shared ? (resident - shared) * page : 0;
}

std::uint64_t own_memory() noexcept {
  const unique_fd statm(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
  return statm ? memory_of(statm.get()) : 0;
}

void apply_limits(const serialization::setup_message& setup) {
  const auto fail = [](const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
  };
  for (const auto& one : setup.rlimits) {
    const rlimit limit{one.soft, one.hard};
    if (::setrlimit(static_cast<__rlimit_resource>(one.resource), &limit) != 0)
      fail("pool_options::rlimits: resource " + std::to_string(one.resource));
  }
  if (setup.nice != 0) {
    errno = 0;
    if (::nice(setup.nice) == -1 && errno != 0) fail("pool_options::nice");
  }
  if (!setup.cpu_affinity.empty()) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (const int cpu : setup.cpu_affinity)
      if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(cpu), &cpus);
    if (::sched_setaffinity(0, sizeof cpus, &cpus) != 0) fail("pool_options::cpu_affinity");
  }
}

}  // namespace carom::runtime

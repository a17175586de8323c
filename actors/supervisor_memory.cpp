// SPDX-License-Identifier: BSL-1.0
#include <fcntl.h>

#include <carom/errors.hpp>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>

#include "actors/supervisor.hpp"
#include "runtime/pidfd.hpp"
#include "runtime/worker_limits.hpp"

// Limits of memory: workers are weighed while any of them works.
namespace carom::actors {

using detail::task_node;

namespace {

constexpr std::int64_t weigh_every_ns = 20'000'000;

}  // namespace

std::uint64_t supervisor::memory_of(seat& of) {
  if (of.pid() == 0) return 0;
  if (!of.watch.statm) {
    of.watch.statm = runtime::unique_fd(
        ::open(("/proc/" + std::to_string(of.pid()) + "/statm").c_str(), O_RDONLY | O_CLOEXEC));
    // The number might be another's by now.
    if (runtime::has_ended(of.pidfd())) of.watch.statm.reset();
  }
  if (!of.watch.statm) return 0;
  const std::uint64_t born = of.link().header().born_with_bytes.load(std::memory_order_relaxed);
  const std::uint64_t now = runtime::memory_of(of.watch.statm.get());
  return now > born ? now - born : 0;
}

void supervisor::weigh_workers(std::int64_t now) {
  // While nobody works nobody grows.
  weigh_at_ns_ = core_.under_way() != 0 ? now + weigh_every_ns : never_ns;
  std::uint64_t all = 0, most = 0;
  seat* largest = nullptr;
  for (std::size_t w = 0; w < seats_.size(); ++w) {
    seat* one = seats_[w].get();
    if (!one || !one->up() || one->ordered) continue;
    const std::uint64_t memory = memory_of(*one);
    if (options_.memory_limit && memory > *options_.memory_limit &&
        stop_for_memory(*one, *options_.memory_limit, memory))
      continue;
    all += memory;
    if (memory > most && core_.live(one->index()) != 0) {
      most = memory;
      largest = one;
    }
  }
  if (options_.pool_memory_limit && all > *options_.pool_memory_limit && largest)
    stop_for_memory(*largest, *options_.pool_memory_limit, most);
}

bool supervisor::stop_for_memory(seat& at, std::uint64_t limit, std::uint64_t found) {
  auto& ring = at.link().tasks();
  drain(at);
  for (std::uint64_t position = core_.first(at.index()); position < core_.tail(at.index());
       ++position) {
    auto* task = static_cast<task_node*>(core_.at(at.index(), position));
    if (!task || ring.look(position).state != runtime::claim_state::running) continue;
    memory_limit_info info;
    info.task_name = task_label(*task);
    info.task_id = task->id();
    info.limit = limit;
    info.memory = found;
    info.pid = at.pid();
    if (!stop_running(at, position, *task, kill_reason::memory_limit,
                      std::make_exception_ptr(memory_limit_exceeded(info)), false,
                      options_.kill_signal))
      return false;
    ++counts_.over_memory;
    return true;
  }
  return false;
}

}  // namespace carom::actors

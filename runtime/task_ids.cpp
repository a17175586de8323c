// SPDX-License-Identifier: BSL-1.0
#include "runtime/task_ids.hpp"

#include <atomic>

#include "runtime/fork_mark.hpp"

namespace carom::detail {
namespace {

constinit std::atomic<std::uint64_t> last_task_id{0};

/// This process, since it was forked.
struct process_era {
  runtime::fork_mark mark;
  std::uint64_t ids_before = last_task_id.load();
};

const process_era& current_era() {
  static std::atomic<process_era*> current{new process_era};
  process_era* found = current.load(std::memory_order_acquire);
  while (!found->mark.original()) {
    auto* const fresh = new process_era;
    if (current.compare_exchange_strong(found, fresh, std::memory_order_acq_rel))
      found = fresh;
    else
      delete fresh;
  }
  return *found;
}

}  // namespace

std::uint64_t next_task_ids(std::size_t count) noexcept {
  (void)current_era();
  return last_task_id.fetch_add(count, std::memory_order_relaxed) + 1;
}

bool is_task_of_original(std::uint64_t id) noexcept { return id <= current_era().ids_before; }

}  // namespace carom::detail

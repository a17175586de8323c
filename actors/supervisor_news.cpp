// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/map_state.hpp>
#include <cstddef>
#include <exception>
#include <functional>
#include <utility>

#include "actors/callbacks.hpp"
#include "actors/supervisor.hpp"

// How tasks end, and how the application is told: of that, of workers, of limits. Its callbacks may
// ask anything of the pool, so they are called from the loop's turn and never from inside of
// something. As long as one is to be made, ends wait behind it: who waits for a task finds all done
// that comes before its end.
namespace carom::actors {

using detail::outcome_kind;
using detail::task_node;

void supervisor::settle(task_node& task, outcome_kind kind) {
  if (handle_->room().limited()) handle_->room().leave(task.admitted_bytes());
  if (const auto* extra = task.find_extra(); extra && extra->deadline_at_ns != 0)
    deadlines_.erase({extra->deadline_at_ns, task.id()});
  map_progress progress;
  if (task.chunk()) {
    forget_deaths(task, UINT64_MAX);
    progress = close_chunk(task);
    kind = outcome_kind::value;
  }
  reveal(task, kind);
  if (!progress.parent) return;
  progress.parent->retain();
  reveal(*progress.parent.get(), progress.kind);
}

void supervisor::settle_error(task_node& task, const std::exception_ptr& error) {
  if (const auto* chunk = task.chunk())
    while (has_items_left(task)) fail_items(task, chunk->count - 1, error);
  else
    set_error(task, error);
  settle(task, outcome_kind::error);
}

/// Takes a reference over.
void supervisor::reveal(task_node& task, outcome_kind kind) {
  if (calls_to_make_ != 0) {
    mark_ended(task);
    news_.push_back({nullptr, &task, kind});
    return;
  }
  ++settled_;
  if (task.settle(kind))
    news_.push_back({nullptr, &task, outcome_kind::none});
  else
    task.release();
}

void supervisor::tell(std::function<void()> call) {
  news_.push_back({std::move(call), nullptr, outcome_kind::none});
  ++calls_to_make_;
}

/// What comes up meanwhile has its turn next time. Says whether there was anything.
bool supervisor::run_callbacks() {
  const std::size_t count = news_.size();
  for (std::size_t i = 0; i < count && !news_.empty(); ++i) {
    const news one = std::move(news_.front());
    news_.pop_front();
    if (one.call) {
      unless_it_throws("in a callback", one.call);
      --calls_to_make_;
      continue;
    }
    if (one.kind != outcome_kind::none) {
      ++settled_;
      one.task->settle(one.kind);
    }
    one.task->run_continuations();
    one.task->release();
  }
  if (std::exchange(settled_told_, settled_) != settled_) handle_->tell_completion();
  return count != 0;
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <carom/detail/map_state.hpp>
#include <carom/errors.hpp>
#include <utility>

#include "actors/supervisor.hpp"
#include "runtime/clock.hpp"

// What applications ask of a pool beside tasks: who runs what, ends of single tasks, its size.
namespace carom::actors {

using detail::task_node;
using place = task_node::place;

namespace {

std::exception_ptr termination(const task_node& task, int signal, bool cancelled = false) {
  terminated_info info;
  info.cancelled = cancelled;
  info.signal = signal;
  info.pid = task.worker_pid();
  info.task_name = task_label(task);
  info.task_id = task.id();
  return std::make_exception_ptr(terminated(info));
}

}  // namespace

pid_t supervisor::accepted_by(task_node& task) {
  if (task.at.where != place::worker) return task.worker_pid();
  seat* one = seats_[task.at.worker].get();
  if (!one) return task.worker_pid();
  auto& ring = one->link().tasks();
  ring.refresh();
  const bool begun = task.at.position < ring.head() ||
                     ring.look(task.at.position).state != runtime::claim_state::queued;
  return begun ? one->pid() : task.worker_pid();
}

// --- single tasks --------------------------------------------------------------------------------

/// A task that waits in the queue has ended; what is left there is dropped when its turn comes.
void supervisor::withdraw(task_node& task, const std::exception_ptr& error) {
  task.retain();
  task.at.where = place::withdrawn;
  ++withdrawn_;
  settle_error(task, error);
}

/// Takes a task back that its worker has not begun.
bool supervisor::take_from_worker(task_node& task) {
  seat* one = seats_[task.at.worker].get();
  if (!one || core_.at(one->index(), task.at.position) != &task) return false;
  if (!one->link().tasks().revoke(task.at.position)) return false;
  if (auto* extra = task.find_extra(); extra && extra->on_start && one->observed != 0)
    --one->observed;
  core_.stolen(one->index(), task.at.position);
  task.at.where = place::nowhere;
  return true;
}

/// All chunks of a map, or none: one that has begun keeps the others.
bool supervisor::cancel_all(const std::vector<detail::task_ref>& chunks,
                            const std::exception_ptr& error) {
  const std::vector<detail::task_ref> all = chunks;
  std::vector<task_node*> taken;
  const bool none_begun = std::all_of(all.begin(), all.end(), [&](const detail::task_ref& chunk) {
    if (has_ended(*chunk.get())) return false;
    if (chunk->at.where == place::queue) return true;
    if (chunk->at.where != place::worker || !take_from_worker(*chunk.get())) return false;
    taken.push_back(chunk.get());
    return true;
  });
  if (!none_begun) {
    for (auto it = taken.rbegin(); it != taken.rend(); ++it) enqueue_task(**it, true);
    return false;
  }
  for (const auto& chunk : all) {
    if (chunk->at.where == place::queue)
      withdraw(*chunk.get(), error);
    else
      settle_error(*chunk.get(), error);
  }
  return true;
}

bool supervisor::cancel(task_node& task) {
  drain_inbox();
  if (has_ended(task)) return false;
  if (const auto* extra = task.find_extra(); extra && extra->map) {
    const bool ended = cancel_all(extra->map->chunks, termination(task, 0, true));
    if (ended) ++counts_.terminated;
    later(&supervisor::go_on);
    return ended;
  }
  return take_back(task, termination(task, 0, true));
}

/// If it has not begun.
bool supervisor::take_back(task_node& task, const std::exception_ptr& error) {
  const detail::task_ref kept = (task.retain(), detail::task_ref(&task));
  switch (task.at.where) {
    case place::queue: withdraw(task, error); break;
    case place::worker:
      if (!take_from_worker(task)) return false;
      settle_error(task, error);
      break;
    case place::delayed:
      // It has begun before, and its worker was lost.
    case place::nowhere:
    case place::withdrawn: return false;
  }
  ++counts_.terminated;
  later(&supervisor::go_on);
  return true;
}

bool supervisor::terminate_task(task_node& task, int signal) {
  const detail::task_ref kept = (task.retain(), detail::task_ref(&task));
  if (cancel(task)) return true;
  if (has_ended(task)) return false;
  if (const auto* extra = task.find_extra(); extra && extra->map) {
    // The map has begun, whatever is true of a chunk.
    bool any = false;
    const auto error = termination(task, signal);
    const auto before = counts_.terminated;
    const std::vector<detail::task_ref> chunks = extra->map->chunks;
    for (const auto& chunk : chunks)
      if (!has_ended(*chunk.get()))
        any |= take_back(*chunk.get(), error) || stop_begun(*chunk.get(), signal);
    counts_.terminated = before + (any ? 1 : 0);
    return any;
  }
  return stop_begun(task, signal);
}

bool supervisor::stop_begun(task_node& task, int signal) {
  if (task.at.where == place::delayed) {
    std::erase_if(delayed_, [&](const auto& one) { return one.second == &task; });
    task.at.where = place::nowhere;
    settle_error(task, termination(task, signal));
  } else if (task.at.where == place::worker && seats_[task.at.worker]) {
    if (!stop_at_worker(*seats_[task.at.worker], task, signal)) return false;
  } else if (!stop_lost(task, signal)) {
    return false;
  }
  ++counts_.terminated;
  later(&supervisor::go_on);
  return true;
}

bool supervisor::stop_at_worker(seat& at, task_node& task, int signal) {
  task.set_worker_pid(at.pid());
  const auto error = termination(task, signal);
  if (!at.stopped || at.stopped->position != task.at.position)
    return stop_running(at, task.at.position, task, kill_reason::terminated, error, true, signal);
  // An item of it is being stopped already: what stands behind it is not to run either.
  if (at.stopped->rest) return false;
  at.stopped->rest = error;
  return true;
}

/// Its worker is dead, and how it has died is still waited for.
bool supervisor::stop_lost(task_node& task, int signal) {
  for (auto& [id, of] : dying_) {
    const auto loss = std::ranges::find(of.lost, &task, &obituary::loss::task);
    if (loss == of.lost.end()) continue;
    if (loss->rest) return false;
    const auto error = termination(task, signal);
    if (task.chunk()) {
      loss->rest = error;
      if (!loss->error) loss->error = error;
    } else {
      of.lost.erase(loss);
      settle_error(task, error);
    }
    return true;
  }
  return false;
}

bool supervisor::terminate_worker(pid_t pid, int signal) {
  for (index w = 0; w < seats_.size(); ++w) {
    seat* const one = seats_[w].get();
    if (!one || one->pid() != pid || pid == 0) continue;  // 0: not forked yet
    auto& ring = one->link().tasks();
    for (std::uint64_t position = core_.first(one->index()); position < core_.tail(one->index());
         ++position) {
      auto* task = static_cast<task_node*>(core_.at(one->index(), position));
      if (!task) continue;
      if (ring.look(position).state == runtime::claim_state::running ||
          (one->stopped && one->stopped->position == position))
        return terminate_task(*task, signal);
    }
    return false;
  }
  throw process_error("no worker of this pool has the process id " + std::to_string(pid) +
                      "; it may have ended: pool::workers() says who is there");
}

/// What has ended is told in the loop's next turn.
void supervisor::go_on() { dispatch(); }

// --- workers -------------------------------------------------------------------------------------

void supervisor::set_target(std::uint32_t processes) {
  core_.set_target(processes);
  handle_->set_processes(static_cast<int>(core_.target()));
}

void supervisor::grow(int by) {
  const std::uint32_t sum = core_.target() + static_cast<std::uint32_t>(by);
  if (sum > most_processes)
    throw std::invalid_argument("a pool has at most " + std::to_string(most_processes) +
                                " workers, and this one has " + std::to_string(core_.target()));
  if (const auto& scaling = options_.autoscale; scaling && std::cmp_greater(sum, scaling->max))
    throw std::invalid_argument(
        "this pool has " + std::to_string(core_.target()) + " workers, and its autoscale.max is " +
        std::to_string(scaling->max) + ": autoscaling would undo what goes beyond");
  set_target(sum);
  later(&supervisor::fill_seats);
}

void supervisor::shrink(int by, bool drain) {
  const auto wanted = static_cast<std::uint32_t>(by);
  if (wanted >= core_.target())
    throw std::invalid_argument("the pool has " + std::to_string(core_.target()) +
                                " workers: shrink by less, or close it");
  if (const auto& scaling = options_.autoscale;
      scaling && std::cmp_less(core_.target() - wanted, scaling->min))
    throw std::invalid_argument(
        "this pool has " + std::to_string(core_.target()) + " workers, and its autoscale.min is " +
        std::to_string(scaling->min) + ": autoscaling would undo what goes below");
  if (!drain && core_.dispensable() < wanted)
    throw process_error("only " + std::to_string(core_.dispensable()) + " workers are idle, not " +
                        std::to_string(by) +
                        ": try again later, or shrink(n, shrinking::drain) lets busy ones finish");
  set_target(core_.target() - wanted);
  later(&supervisor::go_on);
}

void supervisor::restart_workers() {
  core_.restart_all();
  later(&supervisor::fill_seats);
}

std::vector<worker_info> supervisor::workers() {
  using state = supervisor_core::worker_state;
  drain_inbox();
  dispatch();
  std::vector<worker_info> all;
  const std::int64_t now = runtime::steady_ns();
  // By index: what a worker says may make room for more of them.
  for (index w = 0; w < seats_.size(); ++w) {
    seat* const one = seats_[w].get();
    if (!one) continue;
    drain(*one);
    worker_info info;
    info.pid = one->pid();
    info.index = static_cast<int>(one->index());
    info.memory = memory_of(*one);
    if (one->pidfd() >= 0)
      if (const int copy = ::fcntl(one->pidfd(), F_DUPFD_CLOEXEC, 3); copy >= 0)
        info.sentinel_ = std::shared_ptr<const int>(new int(copy), [](const int* fd) {
          ::close(*fd);
          delete fd;
        });
    auto& ring = one->link().tasks();
    for (std::uint64_t position = core_.first(one->index()); position < core_.tail(one->index());
         ++position) {
      const auto* task = static_cast<const task_node*>(core_.at(one->index(), position));
      if (!task) continue;
      const auto claim = ring.look(position);
      if (claim.state == runtime::claim_state::queued) {
        ++info.waiting;
      } else if (claim.state == runtime::claim_state::running) {
        info.task_id = task->id();
        info.task_name = task_label(*task);
        info.running_for =
            std::chrono::nanoseconds(std::max<std::int64_t>(now - claim.started_ns, 0));
        const auto& header = one->link().header();
        if (header.progress_task.load(std::memory_order_acquire) == task->id()) {
          info.progress_done = header.progress_done.load(std::memory_order_relaxed);
          info.progress_total = header.progress_total.load(std::memory_order_relaxed);
        }
      }
    }
    switch (core_.state(one->index())) {
      case state::none:
      case state::starting: info.state = worker_state::starting; break;
      case state::standby: info.state = worker_state::standby; break;
      case state::ready:
        info.state = core_.live(one->index()) ? worker_state::busy : worker_state::idle;
        break;
      case state::retiring: info.state = worker_state::retiring; break;
      case state::doomed: info.state = worker_state::dying; break;
      case state::leaving: info.state = worker_state::leaving; break;
    }
    all.push_back(std::move(info));
  }
  return all;
}

pool_metrics supervisor::metrics() {
  drain_inbox();
  pool_metrics now = counts_;
  now.workers = core_.serving();
  now.idle = core_.idle();
  now.pending = core_.pending() - withdrawn_ + delayed_.size();
  now.under_way = core_.under_way();
  return now;
}

}  // namespace carom::actors

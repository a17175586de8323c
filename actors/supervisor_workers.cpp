// SPDX-License-Identifier: BSL-1.0
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>

#include "actors/supervisor.hpp"
#include "actors/worker_setup.hpp"
#include "runtime/clock.hpp"
#include "runtime/log.hpp"

// Workers' lives: how they start, what they leave behind when they die.
namespace carom::actors {

using detail::task_node;

namespace {

using std::chrono::milliseconds;

/// How long a dead worker's exit status is waited for; it normally comes within a millisecond.
constexpr milliseconds obituary_after{250};

std::string describe_exit(const runtime::exit_info& info) {
  if (!info.known) return "ended for a reason that nobody could tell";
  if (WIFSIGNALED(info.status)) {
    const char* name = ::sigabbrev_np(WTERMSIG(info.status));
    return std::string("died of SIG") + (name ? name : "?");
  }
  return "exited with status " + std::to_string(WEXITSTATUS(info.status));
}

void call_logged(const std::function<void(const process_event&)>& callback,
                 const process_event& event) {
  if (!callback) return;
  try {
    callback(event);
  } catch (const std::exception& e) {
    log()->error("a callback threw: {}", e.what());
  } catch (...) {
    log()->error("a callback threw something that is no std::exception");
  }
}

}  // namespace

void supervisor::fill_seats() {
  if (giving_up_) return;
  while (const auto place = core_.next_start()) start_worker(*place);
}

void supervisor::start_worker(index place) {
  const std::uint64_t id = runtime::host_runtime::next_worker_id();
  places_[id] = place;
  try {
    seats_[place] = std::make_unique<seat>(place, id, make_setup(options_, id, place),
                                           runtime_->events(), *this);
    runtime_->host().fork_worker(id, options_.start_method, seats_[place]->link().take_worker_end(),
                                 *this);
  } catch (const std::exception& e) {
    // No descriptors, no memory: as if the worker had died before it was ready.
    log()->error("pool '{}' cannot start a worker: {}", options_.name, e.what());
    fork_failed(id, EAGAIN);
  }
}

seat* supervisor::seat_of(std::uint64_t id) {
  const auto it = places_.find(id);
  return it == places_.end() ? nullptr : seats_[it->second].get();
}

void supervisor::forked(std::uint64_t id, pid_t pid, runtime::unique_fd pidfd) {
  seat* one = seat_of(id);
  if (!one) return;
  one->sit(pid, std::move(pidfd));
  if (one->up()) worker_ready(*one);
}

void supervisor::fork_failed(std::uint64_t id, int error) {
  const auto it = places_.find(id);
  if (it == places_.end()) return;
  const index place = it->second;
  places_.erase(it);
  runtime_->host().forget(id);
  seats_[place].reset();
  const bool gives_up =
      core_.worker_down(place, runtime::steady_ns(), false) == supervisor_core::verdict::give_up;
  if (gives_up)
    fail_pool(std::string("a worker cannot be forked: ") + ::strerror(error));
  else
    later(&supervisor::fill_seats);
  advance_shutdown();
}

void supervisor::worker_ready(seat& up) {
  if (up.buried) return;
  core_.worker_up(up.index());
  call_logged(options_.on_process_up, {up.pid(), static_cast<int>(up.index()), 0});
  dispatch();
}

void supervisor::tell_started(seat& where) {
  auto& ring = where.link().tasks();
  if (!ring.refresh()) return;
  for (std::uint64_t position = core_.first(where.index());
       position < core_.tail(where.index()) && where.observed != 0; ++position) {
    auto* task = static_cast<task_node*>(core_.at(where.index(), position));
    if (!task || !task->find_extra() || !task->find_extra()->on_start) continue;
    const bool begun =
        position < ring.head() || ring.look(position).state != runtime::claim_state::queued;
    if (begun) start_told(where, *task);
  }
}

void supervisor::start_told(seat& where, task_node& task) {
  const auto callback = std::exchange(task.find_extra()->on_start, nullptr);
  if (where.observed != 0) --where.observed;
  task.set_worker_pid(where.pid());
  call_logged([&](const process_event& event) { callback(event.pid); },
              {where.pid(), static_cast<int>(where.index()), 0});
}

void supervisor::worker_corrupt(seat& from, const char* what) {
  if (from.ordered || !from.broken.empty()) return;
  log()->error("pool '{}': worker {} is ended: {}", options_.name, from.pid(), what);
  from.broken = what;
  runtime_->host().signal_group(from.id(), SIGKILL);
}

void supervisor::worker_gone(seat& from) { bury(from); }

void supervisor::exited(std::uint64_t id, const runtime::exit_info& info) {
  if (seat* one = seat_of(id)) bury(*one);
  publish_obituary(id, info);
}

void supervisor::bury(seat& dead) {
  const index place = dead.index();
  obituary of;
  of.pid = dead.pid();
  of.index = place;
  of.was_up = core_.state(place) != supervisor_core::worker_state::starting;
  of.ordered = dead.ordered;
  of.since_ns = runtime::steady_ns();

  // What it had published is delivered, what it had said is heard.
  dead.buried = true;
  dead.read_channel();
  if (dead.broken.empty())
    while (drain(dead) != 0) {
    }
  if (!dead.broken.empty()) of.cause = dead.broken;
  if (!dead.start_error().empty()) of.cause = dead.start_error();
  const auto& header = dead.link().header();
  if (header.exit_called.load(std::memory_order_acquire) != 0)
    of.cause = "the task called exit(" + std::to_string(header.exit_status.load()) + ")";

  sort_losses(dead, of);
  std::erase(active_, place);
  std::erase(touched_, place);
  const std::uint64_t id = dead.id();
  of.gives_up =
      core_.worker_down(place, of.since_ns, dead.ordered) == supervisor_core::verdict::give_up;
  if (of.gives_up) giving_up_ = true;
  places_.erase(id);
  seats_[place].reset();
  dying_.emplace(id, std::move(of));
  obituary_timer_->arm(obituary_after);
  // A replacement at once; the status of the dead one is not waited for.
  fill_seats();
  dispatch();
}

void supervisor::sort_losses(seat& dead, obituary& of) {
  using runtime::claim_state;
  auto& ring = dead.link().tasks();
  const bool sane = dead.broken.empty() && ring.refresh();
  std::vector<void*> back;
  for (const auto& [position, what] : core_.take_back(dead.index())) {
    auto* task = static_cast<task_node*>(what);
    const auto claim = ring.look(position);
    const bool begun = !sane || position < ring.head() || claim.state != claim_state::queued;
    if (!begun) {
      back.push_back(task);
      continue;
    }
    core_.accepted();
    if (task->find_extra() && task->find_extra()->on_start) start_told(dead, *task);
    task->set_worker_pid(dead.pid());
    std::uint64_t last_item = 0;
    if (const auto* chunk = task->chunk()) {
      // A cursor of another position: it died before the first item.
      const std::uint64_t cursor = dead.link().header().cursor.load(std::memory_order_relaxed);
      last_item = chunk->first;
      if ((cursor ^ runtime::cursor_base(position)) >> 32 == 0)
        last_item = std::max(last_item, cursor & UINT32_MAX);
    }
    of.lost.push_back({task, claim.started_ns, of.since_ns, last_item});
  }
  // What it had not begun runs elsewhere, in the same order.
  for (auto it = back.rbegin(); it != back.rend(); ++it) core_.resubmit(*it);
}

void supervisor::publish_obituary(std::uint64_t id, const runtime::exit_info& info) {
  const auto it = dying_.find(id);
  if (it == dying_.end()) return;
  const obituary of = std::move(it->second);
  dying_.erase(it);
  runtime_->host().forget(id);

  for (const auto& loss : of.lost) {
    worker_lost_info lost;
    lost.pid = of.pid;
    lost.task_name = loss.task->name();
    lost.task_id = loss.task->id();
    if (const auto* extra = loss.task->find_extra(); extra && !extra->correlation_id.empty())
      lost.task_name += " (" + extra->correlation_id + ")";
    if (loss.started_ns > 0)
      lost.run_time =
          std::chrono::nanoseconds(std::max<std::int64_t>(loss.died_ns - loss.started_ns, 0));
    lost.memory = info.max_rss_bytes;
    lost.cause = of.cause;
    if (info.known && WIFSIGNALED(info.status)) lost.signal = WTERMSIG(info.status);
    if (info.known && WIFEXITED(info.status)) lost.exit_code = WEXITSTATUS(info.status);
    if (!info.known && lost.cause.empty()) lost.cause = describe_exit(info);
    const auto error = std::make_exception_ptr(carom::worker_lost(lost));
    if (loss.task->chunk()) {
      fail_items(*loss.task, loss.last_item, error);
      if (has_items_left(*loss.task) && core_.state() != supervisor_core::pool_state::failed &&
          core_.state() != supervisor_core::pool_state::terminating)
        core_.resubmit(loss.task);
      else
        settle_error(*loss.task, error);
    } else {
      settle_error(*loss.task, error);
    }
  }
  log()->log(of.ordered  ? spdlog::level::debug
             : of.was_up ? spdlog::level::info
                         : spdlog::level::warn,
             "pool '{}': worker {} {}{}{}", options_.name, of.pid, describe_exit(info),
             of.cause.empty() ? "" : ": ", of.cause);
  call_logged(options_.on_process_down, {of.pid, static_cast<int>(of.index), info.status});
  if (of.gives_up)
    fail_pool(of.cause.empty() ? "the last worker " + describe_exit(info) : of.cause);
  fill_seats();
  dispatch();
  run_callbacks();
  advance_shutdown();
}

void supervisor::publish_late_obituaries() {
  std::vector<std::uint64_t> late;
  const std::int64_t now = runtime::steady_ns();
  constexpr auto patience = std::chrono::nanoseconds(obituary_after).count();
  for (const auto& [id, of] : dying_)
    if (now - of.since_ns >= patience) late.push_back(id);
  for (const std::uint64_t id : late) {
    runtime::exit_info unknown;
    unknown.pid = dying_[id].pid;
    publish_obituary(id, unknown);
  }
  if (!dying_.empty()) obituary_timer_->arm(obituary_after);
}

void supervisor::signal_seats(int signal) {
  for (const auto& one : seats_)
    if (one) {
      one->ordered = true;
      runtime_->host().signal_group(one->id(), signal);
    }
}

}  // namespace carom::actors

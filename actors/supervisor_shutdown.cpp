// SPDX-License-Identifier: BSL-1.0
#include <signal.h>

#include <carom/actor.hpp>
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>

#include "actors/callbacks.hpp"
#include "actors/supervisor.hpp"
#include "runtime/clock.hpp"

// The ways in which a pool ends.
namespace carom::actors {

using detail::task_node;

namespace {

/// A worker that was asked to leave and does not is killed after this.
constexpr std::int64_t leave_after_ns = 5'000'000'000;

}  // namespace

void supervisor::close_pool() {
  drain_inbox();
  core_.close();
  dispatch();
  advance_shutdown();
}

void supervisor::terminate_pool() {
  if (core_.ending()) return;
  core_.terminate();
  handle_->refuse("the pool has been terminated");
  end_all_tasks([](const task_node& task) {
    terminated_info info;
    info.pid = task.worker_pid();
    info.task_name = task.name();
    info.task_id = task.id();
    return std::make_exception_ptr(terminated(info));
  });
  signal_seats(SIGTERM);
  shutdown_timer_->arm(options_.kill_grace);
  advance_shutdown();
}

void supervisor::fail_pool(const std::string& cause) {
  if (core_.state() == supervisor_core::pool_state::failed) return;
  core_.fail();
  restart_freq_info info;
  info.restarts = core_.deaths();
  info.period = std::chrono::nanoseconds(core_.deaths_within_ns());
  info.cause = cause;
  const auto error = std::make_exception_ptr(restart_freq_exceeded(info));
  say([&](auto& log) {
    log.error("pool '{}' gives up: {}", options_.name, restart_freq_exceeded(info).what());
  });
  exit_reason_ = make_actor_error(error);
  handle_->refuse(std::string("the pool has failed: ") + restart_freq_exceeded(info).what());
  end_all_tasks([error](const task_node&) { return error; });
  signal_seats(SIGTERM);
  shutdown_timer_->arm(options_.kill_grace);
  advance_shutdown();
}

void supervisor::end_all_tasks(task_error error) {
  drain_inbox();
  task_error_ = error;
  for (void* what : core_.take_pending()) {
    auto& task = *static_cast<task_node*>(what);
    if (task.at.where == task_node::place::withdrawn)
      task.release();
    else
      settle_error(task, error(task));
  }
  withdrawn_ = 0;
  for (const auto& [at, task] : std::exchange(delayed_, {})) settle_error(*task, error(*task));
  deadlines_.clear();
  for (index w = 0; w < seats_.size(); ++w)
    for (const auto& [position, what] : core_.take_back(w)) {
      auto& task = *static_cast<task_node*>(what);
      settle_error(task, error(task));
    }
}

void supervisor::advance_shutdown() {
  if (finished_ || !core_.drained() || !delayed_.empty()) return;
  if (core_.state() == supervisor_core::pool_state::closing && dying_.empty())
    for (const auto& one : seats_) {
      if (!one) continue;
      const auto is = core_.state(one->index());
      if (is == supervisor_core::worker_state::doomed) {
        // The end of the pool waits for no diagnosis.
        if (!one->watch.to_be_signalled) continue;
        one->watch.signal_at_ns = 0;
        look_by(*one, 0);
      } else if (is != supervisor_core::worker_state::leaving) {
        ask_to_leave(*one);
      }
    }
  if (core_.present() == 0 && dying_.empty()) anon_send(caf::actor(this), finish_atom::value);
}

void supervisor::ask_to_leave(seat& at) {
  const bool starts = core_.state(at.index()) == supervisor_core::worker_state::starting;
  core_.leaving(at.index());
  at.ordered = true;
  at.link().leave();
  at.watch_writable();
  at.watch.kill_at_ns = after_ns(runtime::steady_ns(), leave_after_ns);
  if (starts)
    at.watch.kill_at_ns =
        std::min(at.watch.kill_at_ns, after_ns(at.watch.born_ns, options_.start_timeout.count()));
  look_by(at, at.watch.kill_at_ns);
}

void supervisor::later(void (supervisor::*what)()) {
  // Keeps this actor until then.
  runtime_->events().post([kept = caf::strong_actor_ptr(ctrl()), this, what] {
    if (!finished_) unless_it_throws("behind something else", [&] { (this->*what)(); });
  });
}

void supervisor::finish() {
  if (finished_ || core_.present() != 0 || !dying_.empty()) return;
  // Somebody submitted a task before the pool was closed, and it came when all had left.
  if (!core_.drained() || !delayed_.empty()) return;
  let_go();
  quit(exit_reason_);
}

void supervisor::on_exit() {
  if (finished_) return;
  // Killed as an actor (exit_reason::kill passes by every handler): no time to see workers leave.
  core_.terminate();
  handle_->refuse("the pool has been killed");
  const auto error = std::make_exception_ptr(terminated({}));
  end_all_tasks([error](const task_node&) { return error; });
  for (const auto& [id, of] : dying_) {
    for (const auto& loss : of.lost) settle_error(*loss.task, error);
    runtime_->host().forget(id);
  }
  dying_.clear();
  signal_seats(SIGKILL);
  for (auto& one : seats_) {
    if (one) runtime_->host().forget(one->id());
    one.reset();
  }
  let_go();
}

void supervisor::let_go() {
  handle_->refuse("the pool is closed");
  // What slipped in between the last look and the closing of the inbox.
  if (!task_error_)
    task_error_ = [](const task_node&) { return std::make_exception_ptr(pool_closed()); };
  end_all_tasks(task_error_);
  task_node* chain = handle_->inbox().close();
  while (chain) {
    task_node& task = *std::exchange(chain, detail::submit_queue::next(chain));
    settle_error(task, task_error_(task));
  }
  do run_callbacks();
  while (!news_.empty());
  handle_->leave({metrics(), did_start_ok()});
  finished_ = true;
  runtime_->events().remove(*this);
  balance_timer_.reset();
  retry_timer_.reset();
  shutdown_timer_.reset();
  obituary_timer_.reset();
  watch_timer_.reset();
  // The application may be waiting to take system and loop down: it is told when this actor is
  // through, which is behind what the loop does now. If it waits for nothing, as a pool that was
  // destroyed on the loop, this was the last who had them.
  auto& events = runtime_->events();
  events.post([around = std::move(runtime_), handle = std::move(handle_)]() mutable {
    around.reset();
    handle->finished();
  });
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>
#include <cerrno>
#include <new>
#include <system_error>

#include "actors/callbacks.hpp"
#include "actors/supervisor.hpp"
#include "actors/worker_setup.hpp"
#include "runtime/clock.hpp"
#include "runtime/log.hpp"
#include "runtime/pidfd.hpp"

// Workers' lives: how they start, what they leave behind when they die.
namespace carom::actors {

using detail::task_node;

namespace {

using std::chrono::milliseconds;

/// How long a dead worker's exit status is waited for; it normally comes within a millisecond.
constexpr milliseconds obituary_after{250};

/// Whether a worker could not be made only because the host is short of something now.
bool is_shortage(int error) {
  switch (error) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
    case ENOSPC:
    case ENOBUFS:
    case ETOOMANYREFS: return true;
    default: return false;
  }
}

std::string describe_exit(const runtime::exit_info& info) {
  if (!info.known) return "ended for a reason that nobody could tell";
  if (WIFSIGNALED(info.status)) {
    const char* name = ::sigabbrev_np(WTERMSIG(info.status));
    return std::string("died of SIG") + (name ? name : "?");
  }
  return "exited with status " + std::to_string(WEXITSTATUS(info.status));
}

}  // namespace

void supervisor::fill_seats() {
  if (giving_up_) return;
  const std::int64_t now = runtime::steady_ns();
  while (const auto place = core_.next_start(now)) start_worker(*place);
  if (const auto at = core_.next_start_at()) due(*at);
}

void supervisor::start_worker(index place) {
  const std::uint64_t id = runtime::host_runtime::next_worker_id();
  places_[id] = place;
  if (seats_.size() <= place) seats_.resize(place + std::size_t{1});
  try {
    seats_[place] = std::make_unique<seat>(place, id, make_setup(options_, id, place, cpus_),
                                           runtime_->events(), *this);
    seats_[place]->watch.born_ns = runtime::steady_ns();
    for (const auto& [call, key] :
         {std::pair(&options_.initializer, serialization::descriptors_message::initializer_key),
          std::pair(&options_.on_process_exit, serialization::descriptors_message::exit_key)}) {
      const auto* list = *call ? detail::call_access::descriptors(**call) : nullptr;
      if (list && !seats_[place]->link().send_descriptors(key, *list))
        throw error("the descriptors of its initializer cannot be sent");
    }
    look_by(*seats_[place], after_ns(seats_[place]->watch.born_ns, options_.start_timeout.count()));
    runtime_->host().fork_worker(id, options_.start_method, seats_[place]->link().take_worker_end(),
                                 *this);
    ++counts_.started_workers;
  } catch (const std::system_error& e) {
    const auto& kind = e.code().category();
    const bool number = kind == std::system_category() || kind == std::generic_category();
    not_started(id, number ? e.code().value() : 0, e.what());
  } catch (const std::bad_alloc& e) {
    not_started(id, ENOMEM, e.what());
  } catch (const std::exception& e) {
    not_started(id, 0, e.what());
  }
}

seat* supervisor::seat_of(std::uint64_t id) {
  const auto it = places_.find(id);
  return it == places_.end() ? nullptr : seats_[it->second].get();
}

void supervisor::forked(std::uint64_t id, pid_t pid, runtime::unique_fd pidfd) {
  seat* one = seat_of(id);
  if (!one) return;
  const bool watched = static_cast<bool>(pidfd);
  // A guardian's pidfd tells of the end; what is meant for the worker goes to its own.
  std::optional<runtime::unique_fd> own;
  if (options_.start_method == start_method::fork) own = runtime_->host().worker_pidfd(id);
  one->sit(pid, std::move(pidfd), std::move(own));
  if (!watched) {
    // Nothing would tell of its end, so it ends now, and the next one comes when there is something
    // that does.
    log()->warn("pool '{}': no descriptor is free for worker {}, which is ended", options_.name,
                pid);
    one->ordered = true;
    core_.condemn(one->index());
    runtime_->host().signal_group(id, SIGKILL);
    if (!core_.starved(runtime::steady_ns())) fail_pool("no descriptor is free for a worker");
    return;
  }
  if (one->up()) worker_ready(*one);
}

void supervisor::fork_failed(std::uint64_t id, int error) {
  not_started(id, error, std::string("a worker cannot be forked: ") + ::strerror(error));
}

void supervisor::not_started(std::uint64_t id, int error, const std::string& why) {
  const auto it = places_.find(id);
  if (it == places_.end()) return;
  const index place = it->second;
  places_.erase(it);
  runtime_->host().forget(id);
  seats_[place].reset();
  const std::int64_t now = runtime::steady_ns();
  const bool starved = is_shortage(error);
  bool gives_up = core_.worker_down(place, now, starved) == supervisor_core::verdict::give_up;
  if (starved) gives_up = !core_.starved(now);
  if (!starved || gives_up) start_failed_ = true;
  log()->log(starved && core_.failed_starts() != 1 ? spdlog::level::debug : spdlog::level::err,
             "pool '{}' cannot start a worker: {}{}", options_.name, why,
             starved ? "; it is tried again" : "");
  if (error == ESRCH)
    fail_pool(
        "keeper and fork server are gone both, or this program has closed their descriptor: no "
        "worker can be made in this process");
  else if (gives_up)
    fail_pool(why);
  else
    later(&supervisor::fill_seats);
  advance_shutdown();
}

void supervisor::worker_ready(seat& up) {
  if (up.buried) return;
  core_.worker_up(up.index());
  if (options_.on_process_up)
    tell([this, event = process_event{up.pid(), static_cast<int>(up.index()), 0}] {
      hand_out([call = options_.on_process_up, event] { call_logged(call, event); });
    });
  unless_it_throws("giving out tasks", [this] { dispatch(); });
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
  auto callback = std::exchange(task.find_extra()->on_start, nullptr);
  if (where.observed != 0) --where.observed;
  task.set_worker_pid(where.pid());
  tell([this, callback = std::move(callback), pid = where.pid()] {
    hand_out([callback, pid] { call_logged(callback, pid); });
  });
}

void supervisor::worker_corrupt(seat& from, const char* what) {
  if (!from.broken.empty()) return;
  from.broken = what;  // nothing that it says is read any more
  say([&](auto& log) {
    log.error("pool '{}': worker {} is ended: {}", options_.name, from.pid(), what);
  });
  if (from.ordered) return;           // it is about to end anyway
  core_.condemn(from.index(), true);  // it gets nothing more, and its death counts
  runtime_->host().signal_group(from.id(), SIGKILL);
}

void supervisor::worker_gone(seat& from) {
  unless_it_throws("burying a worker", [&] { bury(from); });
}

void supervisor::exited(std::uint64_t id, const runtime::exit_info& info) {
  unless_it_throws("burying a worker", [&] {
    if (seat* one = seat_of(id)) bury(*one);
    publish_obituary(id, info);
  });
}

/// Its task may run on with nobody to stop it: it ends now, and its pidfd tells when.
void supervisor::contact_lost(std::uint64_t id) {
  seat* one = seat_of(id);
  if (!one || one->pidfd() < 0) return;
  if (one->cause.empty()) one->cause = "keeper and fork server were killed both";
  runtime::signal_group(one->pid(), one->pidfd(), SIGKILL, false);
}

void supervisor::bury(seat& dead) {
  const index place = dead.index();
  obituary of;
  of.pid = dead.pid();
  of.index = place;
  of.was_up = dead.up();
  if (!of.was_up && !dead.ordered) start_failed_ = true;
  if (!dead.ordered) ++counts_.died_workers;
  of.ordered = dead.ordered;
  of.since_ns = runtime::steady_ns();

  // What it had published is delivered, what it had said is heard.
  dead.buried = true;
  // Whoever has its channel's end from it may go on talking.
  constexpr int most_shares = 64;
  dead.read_channel();
  for (int more = 1; more < most_shares && dead.link().has_more(); ++more) dead.read_channel();
  if (dead.broken.empty())
    while (drain(dead) != 0) {
    }
  if (!dead.cause.empty()) of.cause = dead.cause;
  if (!dead.broken.empty()) of.cause = dead.broken;
  if (!dead.start_error().empty()) of.cause = dead.start_error();
  const auto& header = dead.link().header();
  if (header.exit_called.load(std::memory_order_acquire) != 0)
    of.cause = "the task called exit(" + std::to_string(header.exit_status.load()) + ")";

  of.backtrace = dead.link().crash_text();
  if (!of.backtrace.empty()) of.fault_address = dead.link().fault_address();
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
  // The timer runs for whoever waits longest.
  if (dying_.size() == 1) obituary_timer_->arm(obituary_after);
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
      core_.not_begun();
      back.push_back(task);
      continue;
    }
    core_.accepted();
    if (task->find_extra() && task->find_extra()->on_start) start_told(dead, *task);
    task->set_worker_pid(dead.pid());
    std::uint64_t last_item = 0;
    if (const auto* chunk = task->chunk()) {
      if (const auto open = dead.link().open_items(position);
          open.count != 0 && open.count < chunk->count - chunk->first)
        take_items(*task, open, dead.link());
      // A cursor of another position: it died before the first item.
      const std::uint64_t cursor = dead.link().header().cursor.load(std::memory_order_relaxed);
      last_item = chunk->first;
      if (runtime::cursor_is_of(cursor, position))
        last_item = std::max(last_item, runtime::cursor_item(cursor));
    }
    count_death(*task, last_item);
    task->at.where = task_node::place::nowhere;
    of.lost.push_back({task, claim.started_ns, of.since_ns, last_item});
    if (dead.stopped && dead.stopped->position == position) {
      of.lost.back().error = dead.stopped->error;
      of.lost.back().rest = dead.stopped->rest;
    }
  }
  // What it had not begun runs elsewhere, in the same order.
  for (auto it = back.rbegin(); it != back.rend(); ++it)
    enqueue_task(*static_cast<task_node*>(*it), true);
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
    lost.task_name = task_label(*loss.task);
    lost.task_id = loss.task->id();
    lost.attempts = loss.task->at.attempts;
    lost.backtrace = of.backtrace;
    lost.fault_address = of.fault_address;
    if (loss.started_ns > 0)
      lost.run_time =
          std::chrono::nanoseconds(std::max<std::int64_t>(loss.died_ns - loss.started_ns, 0));
    lost.memory = info.max_rss_bytes;
    lost.cause = of.cause;
    if (info.known && WIFSIGNALED(info.status)) lost.signal = WTERMSIG(info.status);
    if (info.known && WIFEXITED(info.status)) lost.exit_code = WEXITSTATUS(info.status);
    if (!info.known && lost.cause.empty()) lost.cause = describe_exit(info);
    settle_loss(loss, std::make_exception_ptr(carom::worker_lost(lost)));
  }
  say([&](auto& log) {
    log.log(of.ordered  ? spdlog::level::debug
            : of.was_up ? spdlog::level::info
                        : spdlog::level::warn,
            "pool '{}': worker {} {}{}{}", options_.name, of.pid, describe_exit(info),
            of.cause.empty() ? "" : ": ", of.cause);
  });
  if (options_.on_process_down)
    tell([this, event = process_event{of.pid, static_cast<int>(of.index), info.status}] {
      hand_out([call = options_.on_process_down, event] { call_logged(call, event); });
    });
  if (of.gives_up)
    fail_pool(of.cause.empty() ? "the last worker " + describe_exit(info) : of.cause);
  fill_seats();
  dispatch();
  advance_shutdown();
}

/// Of a chunk the deaths of each item count for themselves: how many share a chunk is no item's
/// fault.
void supervisor::count_death(task_node& task, std::uint64_t last_item) {
  if (task.chunk() && retry_rule(task).attempts > 1)
    task.at.attempts = ++item_deaths_[{&task, last_item}];
  else
    ++task.at.attempts;
}

void supervisor::forget_deaths(const task_node& chunk, std::uint64_t up_to) {
  if (item_deaths_.empty()) return;
  item_deaths_.erase(item_deaths_.lower_bound({&chunk, 0}),
                     item_deaths_.upper_bound({&chunk, up_to}));
}

/// What a task ends in whose worker is gone, or where it goes on.
void supervisor::settle_loss(const obituary::loss& loss, const std::exception_ptr& lost) {
  task_node& task = *loss.task;
  if (!loss.error && retry(task)) return;
  const auto* chunk = task.chunk();
  if (!loss.error) ++counts_.lost;
  if (!chunk || core_.ending() || (loss.error && loss.error == loss.rest)) {
    settle_error(task, loss.error ? loss.error : lost);
    return;
  }
  // What had ended but was not told is lost; the item that ran is the one that was stopped, if any.
  if (loss.error && loss.last_item > chunk->first) fail_items(task, loss.last_item - 1, lost);
  fail_items(task, loss.last_item, loss.error ? loss.error : lost);
  task.at.attempts = 0;  // those were of this item
  forget_deaths(task, loss.last_item);
  if (loss.rest)
    settle_error(task, loss.rest);
  else if (has_items_left(task))
    enqueue_task(task, true);
  else
    settle(task, detail::outcome_kind::value);
}

void supervisor::publish_late_obituaries() {
  std::vector<std::uint64_t> late;
  const std::int64_t now = runtime::steady_ns();
  constexpr auto patience = std::chrono::nanoseconds(obituary_after).count();
  std::int64_t next_ns = now + patience;
  for (const auto& [id, of] : dying_) {
    if (now - of.since_ns >= patience)
      late.push_back(id);
    else
      next_ns = std::min(next_ns, of.since_ns + patience);
  }
  for (const std::uint64_t id : late) {
    runtime::exit_info unknown;
    const auto it = dying_.find(id);
    if (it == dying_.end()) continue;
    unknown.pid = it->second.pid;
    publish_obituary(id, unknown);
  }
  if (!dying_.empty()) obituary_timer_->arm(std::chrono::nanoseconds(next_ns - now));
}

void supervisor::signal_seats(int signal) {
  for (index w = 0; w < seats_.size(); ++w)
    if (seat* one = seats_[w].get()) {
      one->ordered = true;
      runtime_->host().signal_group(one->id(), signal);
    }
}

}  // namespace carom::actors

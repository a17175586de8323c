// SPDX-License-Identifier: BSL-1.0
#include <signal.h>
#include <string.h>

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

// Workers' lives: how they start, what is heard of them. supervisor_deaths has their ends.
namespace carom::actors {

using detail::task_node;

namespace {

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

void supervisor::signal_seats(int signal) {
  for (index w = 0; w < seats_.size(); ++w)
    if (seat* one = seats_[w].get()) {
      one->ordered = true;
      runtime_->host().signal_group(one->id(), signal);
    }
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#include "actors/supervisor.hpp"

#include <signal.h>

#include <carom/actor.hpp>
#include <carom/detail/async_access.hpp>
#include <carom/errors.hpp>
#include <cmath>

#include "actors/caf_visit.hpp"
#include "actors/callbacks.hpp"
#include "runtime/clock.hpp"
#include "runtime/task_ids.hpp"

// The actor itself: messages, polling, results. Who gets which task is in supervisor_dispatch.cpp,
// workers' lives are in supervisor_workers.cpp, the pool's end in supervisor_shutdown.cpp.
namespace carom::actors {

using detail::outcome_kind;
using detail::task_node;

namespace {

/// A replied value larger than this is unpacked in the requester's system, off the loop.
constexpr std::size_t largest_on_loop = 64 * 1024;

/// More workers than these are not asked at each turn whether they have results.
constexpr std::size_t most_polled = 16;

void deliver_reply(caf::response_promise& to, const task_node& task, detail::caf_reply make) {
  try {
    to.deliver(make(task));
  } catch (...) {
    to.deliver(make_actor_error(std::current_exception()));
  }
}

supervisor_core::options core_options(const pool_options& o) {
  supervisor_core::options core;
  core.processes = static_cast<std::uint32_t>(o.processes);
  core.max_restarts =
      static_cast<std::uint32_t>(std::max(o.restarts.max_restarts.value_or(100 * o.processes), 0));
  core.period_ns = o.restarts.period.count();
  core.start_patience_ns = std::min(core.start_patience_ns, o.start_timeout.count());
  core.max_tasks_per_child = o.max_tasks_per_child.value_or(0);
  const backoff_options& backoff = o.restarts.backoff;
  core.backoff = {backoff.initial.count(), backoff.multiplier, backoff.max.count(),
                  backoff.reset_after.count(), backoff.jitter};
  core.seed = static_cast<std::uint64_t>(runtime::steady_ns());
  if (o.rate_limit) {
    const double each = static_cast<double>(o.rate_limit->period.count()) / o.rate_limit->tasks;
    core.task_interval_ns = std::max<std::int64_t>(std::llround(std::min(each, 9e18)), 1);
    core.task_burst = static_cast<std::uint32_t>(o.rate_limit->burst);
  }
  return core;
}

}  // namespace

supervisor::supervisor(caf::actor_config& config, std::shared_ptr<actor_runtime> runtime,
                       std::shared_ptr<detail::pool_handle> handle, pool_options options)
    : event_based_actor(config),
      runtime_(std::move(runtime)),
      handle_(std::move(handle)),
      options_(std::move(options)),
      core_(core_options(options_)),
      seats_(static_cast<std::size_t>(options_.processes)),
      unit_(&runtime_->unit()) {
  const auto length = [](const std::optional<std::chrono::nanoseconds>& limit) {
    return limit ? limit->count() : never_ns;
  };
  pool_limits_ = {length(options_.soft_time_limit), length(options_.time_limit)};
  claim_deadline_ns_ = options_.claim_deadline.count();
  if (const auto& scaling = options_.autoscale)
    autoscaler_.emplace(autoscaler::rule{static_cast<std::uint32_t>(scaling->min),
                                         static_cast<std::uint32_t>(scaling->max),
                                         scaling->idle_time.count()});
}

supervisor::~supervisor() = default;

void supervisor::enqueue(caf::mailbox_element_ptr what, caf::execution_unit*) {
  event_based_actor::enqueue(std::move(what), unit_);
}

caf::behavior supervisor::make_behavior() {
  auto& events = runtime_->events();
  const auto timer = [&](auto call) {
    return events.make_timer([call] { unless_it_throws("on a timer", call); });
  };
  balance_timer_ = timer([this] {
    balance_armed_ = false;
    if (const auto theft = core_.next_theft(true, place())) steal(*theft);
    dispatch();
  });
  shutdown_timer_ = timer([this] { signal_seats(SIGKILL); });
  obituary_timer_ = timer([this] { publish_late_obituaries(); });
  watch_timer_ = timer([this] { look_around(); });
  if (autoscaler_) scale(runtime::steady_ns());
  due(scale_at_ns_);
  events.add(*this);
  set_default_handler(caf::drop);  // CAF's own prints
  set_exit_handler([this](caf::exit_msg& message) {
    if (!message.reason) return;  // one that it is linked to has ended as it should
    exit_reason_ = message.reason;
    terminate_pool();
  });
  fill_seats();
  return {
      [](drain_atom) {
        // The loop polls this actor right after its messages.
      },
      [this](close_atom) { close_pool(); },
      [this](terminate_atom) { terminate_pool(); },
      [this](finish_atom) { finish(); },
      [this](const question& asked) {
        try {
          asked.what->by(*this);
        } catch (...) {
          asked.what->answer.set_exception(std::current_exception());
          return;
        }
        unless_it_throws("telling what has ended", [this] { run_callbacks(); });
        asked.what->answer.set_value();
      },
      [this](const packed_call& call) { return answer(call); },
  };
}

// --- polling -------------------------------------------------------------------------------------

bool supervisor::poll() {
  if (finished_) return false;
  bool found = false;
  unless_it_throws("taking tasks", [&] { found |= drain_inbox(); });
  unless_it_throws("taking results", [&] { found |= drain_results(); });
  unless_it_throws("giving out tasks", [&] {
    if (runtime::argument_segments::instance().drops() != drops_seen_) forget_segments();
    dispatch();
  });
  unless_it_throws("telling what has ended", [&] { found |= run_callbacks(); });
  return found;
}

bool supervisor::drain_inbox() {
  task_node* chain = handle_->inbox().take_all();
  if (!chain) return false;
  const std::int64_t now = runtime::steady_ns();
  while (chain) {
    task_node& task = *std::exchange(chain, detail::submit_queue::next(chain));
    try {
      // Submitted at the moment at which the pool ended.
      if (task_error_)
        settle_error(task, task_error_(task));
      else
        take_in(task, now);
    } catch (...) {
      const auto error = std::current_exception();
      unless_it_throws("refusing a task", [&] { settle_error(task, error); });
    }
  }
  return true;
}

bool supervisor::drain_results() {
  bool found = false;
  // By index and backwards: a seat may leave the list meanwhile.
  for (std::size_t i = active_.size(); i-- > 0;) {
    if (i >= active_.size()) continue;
    seat* one = seats_[active_[i]].get();
    if (!one) continue;
    if (drain(*one) != 0) {
      found = true;
    } else if (active_.size() > most_polled && i < active_.size() && active_[i] == one->index() &&
               one->link().results().arm()) {
      // Among many workers few run at a time: this one rings when it has something.
      one->active = false;
      active_[i] = active_.back();
      active_.pop_back();
    }
  }
  return found;
}

bool supervisor::before_sleep() {
  if (finished_) return true;
  bool quiet = handle_->inbox().arm() && news_.empty();
  std::size_t kept = 0;
  for (const index w : active_) {
    seat* one = seats_[w].get();
    if (!one) continue;
    if (!one->broken.empty()) {
      one->active = false;
      continue;
    }
    if (one->link().results().arm()) {
      one->active = false;
    } else {
      active_[kept++] = w;
      quiet = false;
    }
  }
  active_.resize(kept);
  return quiet;
}

void supervisor::forget_segments() {
  for (const auto ticket : runtime::argument_segments::instance().dropped_since(drops_seen_))
    for (const auto& one : seats_)
      if (one) {
        one->link().forget_segment(ticket);
        one->watch_writable();
      }
}

void supervisor::results_waiting(seat& from) {
  if (from.observed != 0) tell_started(from);
  if (from.active || !from.broken.empty()) return;
  from.active = true;
  active_.push_back(from.index());
}

std::uint32_t supervisor::drain(seat& from) {
  if (!from.broken.empty()) return 0;
  auto& results = from.link().results();
  const std::uint64_t available = results.available();
  if (available > runtime::ring_slots) {
    worker_corrupt(from, "it claims more results than its ring holds");
    return 0;
  }
  if (core_.state() >= supervisor_core::pool_state::terminating) {
    from.link().release_results(available);  // of tasks that have ended already
    return 0;
  }
  bool sane = true;
  const bool done = unless_it_throws("taking a worker's results", [&] {
    for (std::uint64_t i = 0; i < available && sane; ++i) {
      runtime::result_frame frame;
      sane = results.peek(i, frame) && take_result(from, frame);
    }
  });
  if (!done) {
    worker_corrupt(from, "its results could not be taken");
    return 0;
  }
  if (!sane) {
    worker_corrupt(from, "it published a result that cannot be");
    return 0;
  }
  if (!from.link().tasks().refresh()) {
    worker_corrupt(from, "its ring's head is out of bounds");
    return 0;
  }
  if (available == 0) return 0;
  if (from.link().has_put_off()) from.read_channel();
  // Descriptors taken just now may have kept out the ring of what came behind `available`.
  if (!from.active && !from.buried) results_waiting(from);
  core_.set_average(from.index(), from.link().header().average_ns.load(std::memory_order_relaxed));
  from.link().release_results(available);
  from.watch_writable();
  const auto is = core_.state(from.index());
  if (from.link().header().wants_out.load(std::memory_order_acquire) != 0 &&
      (is == supervisor_core::worker_state::ready ||
       is == supervisor_core::worker_state::retiring)) {
    // It has grown too large and claims nothing any more, not even what it was to finish.
    core_.retire(from.index());
    take_unbegun(from);
  }
  return static_cast<std::uint32_t>(available);
}

bool supervisor::take_result(seat& from, const runtime::result_frame& frame) {
  using runtime::result_kind;
  auto* task = static_cast<task_node*>(core_.at(from.index(), frame.position));
  if (!task) return false;
  auto* extra = task->find_extra();
  const bool chunk = task->chunk() != nullptr;
  if (extra && extra->on_start) start_told(from, *task);
  switch (frame.kind) {
    case result_kind::items:
    case result_kind::item_error: return chunk && take_items(*task, frame, from.link());
    case result_kind::chunk_done:
      if (!chunk || !take_last_items(*task, frame, from.link())) return false;
      break;
    case result_kind::value:
      if (chunk || !take_payload(*task, frame, from.link())) return false;
      break;
    case result_kind::error:
      if (chunk ? !take_chunk_error(*task, frame, from.link())
                : !take_payload(*task, frame, from.link()))
        return false;
      break;
  }
  if (core_.finished(from.index(), frame.position) != task) return false;
  task->at.where = task_node::place::nowhere;
  task->set_worker_pid(from.pid());
  ++counts_.finished;
  settle(*task, frame.kind == result_kind::error ? outcome_kind::error : outcome_kind::value);
  return true;
}

// --- dispatch ------------------------------------------------------------------------------------

/// A new task.
void supervisor::take_in(task_node& task, std::int64_t now) {
  task.at.queued_ns = now;
  if (auto* extra = task.find_extra(); extra && extra->deadline_ns != 0) {
    extra->deadline_at_ns = after_ns(now, extra->deadline_ns);
    deadlines_.emplace(std::pair(extra->deadline_at_ns, task.id()), &task);
    due(extra->deadline_at_ns);
  }
  enqueue_task(task, false);
}

void supervisor::enqueue_task(task_node& task, bool first) {
  task.at.where = task_node::place::queue;
  if (first)
    core_.resubmit(&task, task.priority());
  else
    core_.submit(&task, task.priority());
}

caf::result<caf::message> supervisor::answer(const packed_call& call) {
  if (!call.valid() || !detail::call_access::reply(call))
    return caf::error(static_cast<std::uint8_t>(actor_errc::invalid_call), error_category(),
                      caf::make_message(std::string(
                          "this call cannot be answered: make it with carom::call where "
                          "<carom/actor.hpp> is included")));
  if (!core_.accepts()) return make_actor_error(std::make_exception_ptr(pool_closed()));
  const auto arguments = detail::call_access::arguments(call);
  if (handle_->room().limited() && !handle_->room().try_enter(arguments.size()))
    return make_actor_error(std::make_exception_ptr(queue_full()));
  std::shared_ptr<caf::response_promise> promise;
  detail::task_ref task;
  try {
    task = detail::task_ref(
        new task_node(call_types_.of(call), &runtime::argument_segments::instance()));
    task->set_function(detail::call_access::function(call));
    task->set_id(detail::next_task_id(), handle_->id());
    task->payload().append(arguments.data(), arguments.size());
    if (const auto* descriptors = detail::call_access::descriptors(call))
      task->payload().descriptors() = descriptors->duplicate();
    promise = std::make_shared<caf::response_promise>();
    const auto make = reinterpret_cast<detail::caf_reply>(detail::call_access::reply(call));
    task->on_settled([this, promise, make, node = task.get()] { reply(*promise, *node, make); });
  } catch (...) {
    if (handle_->room().limited()) handle_->room().leave(arguments.size());
    return make_actor_error(std::current_exception());
  }
  task->set_admitted_bytes(arguments.size());
  *promise = make_response_promise();
  task->retain();
  take_in(*task.get(), runtime::steady_ns());
  return *promise;
}

void supervisor::reply(caf::response_promise& to, const task_node& task, detail::caf_reply make) {
  if (task.payload().size() <= largest_on_loop) return deliver_reply(to, task, make);
  // Unpacking megabytes would hold up every other task: the requester's system does it.
  auto& node = const_cast<task_node&>(task);
  node.retain();
  const auto unpack = [](caf::event_based_actor* self, const detail::task_ref& kept,
                         detail::caf_reply reply) -> caf::behavior {
    return {[=](drain_atom) -> caf::result<caf::message> {
      auto promise = self->make_response_promise();
      deliver_reply(promise, *kept.get(), reply);
      self->quit();
      return promise;
    }};
  };
  const caf_visit visit;
  to.delegate(system().spawn(unpack, detail::task_ref(&node), make), drain_atom::value);
}

}  // namespace carom::actors

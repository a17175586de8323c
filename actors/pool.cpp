// SPDX-License-Identifier: BSL-1.0
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <carom/actor.hpp>
#include <carom/context.hpp>
#include <carom/errors.hpp>
#include <carom/pool.hpp>
#include <stdexcept>

#include "actors/actor_runtime.hpp"
#include "actors/caf_visit.hpp"
#include "actors/pool_handle.hpp"
#include "actors/supervisor.hpp"
#include "actors/worker.hpp"
#include "runtime/executable.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/memfd.hpp"
#include "runtime/segment.hpp"
#include "runtime/worker_page.hpp"

namespace carom {
namespace {

constexpr int most_processes = actors::most_processes;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

void check_limit(const std::optional<std::chrono::nanoseconds>& limit, const char* name) {
  if (limit && limit->count() <= 0)
    refuse(std::string(name) + " must be positive; leave it out for no limit of its own");
}

void check_not_negative(std::chrono::nanoseconds duration, const char* name) {
  if (duration.count() < 0) refuse(std::string(name) + " must not be negative");
}

void check_positive(std::chrono::nanoseconds duration, const char* name) {
  if (duration.count() <= 0) refuse(std::string(name) + " must be positive");
}

void check_signal(int signal) {
  if (signal < 1 || signal > SIGRTMAX)
    refuse("there is no signal " + std::to_string(signal) + ": choose 1 to " +
           std::to_string(SIGRTMAX) + ", as SIGTERM");
}

void check(const retry_options& retry, const char* name) {
  if (retry.attempts < 1 || retry.attempts > UINT16_MAX)
    refuse(std::string(name) + ".attempts must be 1 to 65535; 1 is no retry");
  check_not_negative(retry.backoff, "retry.backoff");
}

void check_supervision(const pool_options& options) {
  check_limit(options.time_limit, "pool_options::time_limit");
  check_limit(options.soft_time_limit, "pool_options::soft_time_limit");
  check_not_negative(options.kill_grace, "pool_options::kill_grace");
  check_signal(options.kill_signal);
  check_positive(options.start_timeout, "pool_options::start_timeout");
  check_positive(options.claim_deadline, "pool_options::claim_deadline");
  check(options.retry, "pool_options::retry");
  const auto not_zero = [](const std::optional<std::uint64_t>& number, const char* name) {
    if (number && *number == 0) refuse(std::string(name) + " is 0; leave it out for no limit");
  };
  not_zero(options.max_tasks_per_child, "pool_options::max_tasks_per_child");
  not_zero(options.max_memory_per_child, "pool_options::max_memory_per_child");
  not_zero(options.memory_limit, "pool_options::memory_limit");
  not_zero(options.pool_memory_limit, "pool_options::pool_memory_limit");
  const backoff_options& backoff = options.restarts.backoff;
  check_not_negative(backoff.initial, "pool_options::restarts.backoff.initial");
  check_not_negative(backoff.reset_after, "pool_options::restarts.backoff.reset_after");
  if (!(backoff.multiplier >= 1)) refuse("pool_options::restarts.backoff.multiplier is below 1");
  if (backoff.max < backoff.initial)
    refuse("pool_options::restarts.backoff.max is less than its initial");
  if (!(backoff.jitter >= 0 && backoff.jitter <= 1))
    refuse("pool_options::restarts.backoff.jitter is a share, 0 to 1");
  if (const auto& rate = options.rate_limit) {
    if (!(rate->tasks > 0)) refuse("pool_options::rate_limit.tasks must be positive");
    check_positive(rate->period, "pool_options::rate_limit.period");
    if (rate->burst < 1) refuse("pool_options::rate_limit.burst must be at least 1");
  }
  if (const auto& scale = options.autoscale) {
    if (scale->min < 1 || scale->max < scale->min || scale->max > most_processes)
      refuse("pool_options::autoscale wants 1 <= min <= max <= " + std::to_string(most_processes));
    if (options.processes < scale->min || options.processes > scale->max)
      refuse(
          "pool_options::processes, with which the pool begins, must lie between autoscale.min "
          "and autoscale.max");
    check_positive(scale->interval, "pool_options::autoscale.interval");
    check_not_negative(scale->idle_time, "pool_options::autoscale.idle_time");
  }
  for (const int cpu : options.cpu_affinity)
    if (cpu < 0 || cpu >= CPU_SETSIZE)
      refuse("pool_options::cpu_affinity: there is no CPU " + std::to_string(cpu));
  for (const resource_limit& one : options.rlimits) {
    if (one.resource < 0 || one.resource >= RLIM_NLIMITS)
      refuse("pool_options::rlimits: there is no resource " + std::to_string(one.resource));
    if (one.soft > one.hard)
      refuse("pool_options::rlimits: the soft limit of resource " + std::to_string(one.resource) +
             " is above the hard one");
  }
  const auto methods = get_all_start_methods();
  if (std::ranges::find(methods, options.start_method) == methods.end())
    refuse("pool_options::start_method is none; see get_all_start_methods");
  if (options.on_process_exit && !options.on_process_exit->valid())
    refuse("pool_options::on_process_exit is an empty call: make it with call()");
}

void check(const pool_options& options) {
  if (options.processes < 1 || options.processes > most_processes)
    throw std::invalid_argument("pool_options::processes is " + std::to_string(options.processes) +
                                "; choose 1 to " + std::to_string(most_processes));
  check_supervision(options);
  if (options.max_pending && *options.max_pending == 0)
    throw std::invalid_argument(
        "pool_options::max_pending is 0, which would take no task at all; leave it out for no "
        "limit");
  if (options.max_pending_bytes && *options.max_pending_bytes == 0)
    throw std::invalid_argument("pool_options::max_pending_bytes is 0; leave it out for no limit");
  if (options.restarts.period <= std::chrono::nanoseconds(0))
    throw std::invalid_argument("pool_options::restarts.period must be positive");
  if (options.restarts.max_restarts && *options.restarts.max_restarts < 0)
    throw std::invalid_argument(
        "pool_options::restarts.max_restarts is negative; leave it out for 100 for each process");
  if (options.initializer && !options.initializer->valid())
    throw std::invalid_argument("pool_options::initializer is an empty call: make it with call()");
}

/// Starts the supervisor of a pool in `system`, or in carom's own.
std::shared_ptr<detail::pool_handle> start_pool(pool_options options, caf::actor_system* system) {
  check(options);
  if (!runtime::memfd_may_have(sizeof(runtime::worker_page)))
    throw start_method_error("a pool cannot start: each worker shares " +
                             std::to_string(sizeof(runtime::worker_page)) +
                             " bytes of memory with this process, more than its RLIMIT_FSIZE "
                             "allows: raise that");
  actors::provide_workers();
  if (options.start_method == start_method::spawn) runtime::check_executable(options.start_timeout);
  auto host = runtime::host_runtime::acquire(options.start_method);
  auto around = system ? std::make_shared<actors::actor_runtime>(std::move(host), *system)
                       : actors::actor_runtime::with_own_system(std::move(host));
  auto handle = std::make_shared<detail::pool_handle>(options);
  handle->enlist();
  // The application's system may well become this thread's.
  std::optional<actors::caf_visit> visit;
  if (!system) visit.emplace();
  caf::actor_config config{&around->unit()};
  auto supervisor = around->system().spawn_class<actors::supervisor, caf::no_spawn_options>(
      config, around, handle, std::move(options));
  handle->attach(supervisor, system ? nullptr : around);
  return handle;
}

}  // namespace

pool::pool(pool_options options) : handle_(start_pool(std::move(options), nullptr)) {}

pool::pool(pool&&) noexcept = default;

pool& pool::operator=(pool&& other) noexcept {
  if (this != &other) {
    if (handle_) handle_->destroy();
    handle_ = std::move(other.handle_);
  }
  return *this;
}

pool::~pool() {
  if (handle_) handle_->destroy();
}

detail::pool_handle& pool::access() const {
  if (!handle_) throw pool_closed("this pool object was moved from");
  return *handle_;
}

void pool::close() { access().close(); }
void pool::terminate() { access().terminate(); }
void pool::join() { access().join(std::nullopt); }
void pool::join_for(std::optional<std::chrono::nanoseconds> timeout) {
  if (!access().join(timeout))
    throw timeout_error("the pool has not ended within the timeout of join(); it goes on ending");
}
int pool::processes() const noexcept { return handle_ ? handle_->processes() : 0; }

void pool::grow(int n) {
  if (n < 1) refuse("grow(n) wants at least 1: shrink makes a pool smaller");
  ask([n](actors::supervisor& s) { s.grow(n); });
}

void pool::shrink(int n, shrinking how) {
  if (n < 1) refuse("shrink(n) wants at least 1: grow makes a pool larger");
  ask([=](actors::supervisor& s) { s.shrink(n, how == shrinking::drain); });
}

void pool::restart() {
  if (access().refuses()) throw pool_closed("a pool that was closed cannot be restarted");
  ask([](actors::supervisor& s) { s.restart_workers(); });
}

bool pool::terminate_job(pid_t pid, int signal) {
  check_signal(signal);
  bool ended = false;
  ask([&](actors::supervisor& s) { ended = s.terminate_worker(pid, signal); });
  return ended;
}

std::vector<worker_info> pool::workers() const {
  std::vector<worker_info> all;
  access().ask([&](actors::supervisor& s) { all = s.workers(); });
  return all;
}

pool_metrics pool::metrics() const {
  pool_metrics now;
  const bool told = access().ask([&](actors::supervisor& s) { now = s.metrics(); });
  return told ? now : access().left().metrics;
}

bool pool::did_start_ok() const {
  bool ok = false;
  const bool told = access().ask([&](actors::supervisor& s) { ok = s.did_start_ok(); });
  return told ? ok : access().left().started_ok;
}

int pool::completion_fd() { return access().completion_fd(); }

void pool::ask(const std::function<void(actors::supervisor&)>& question) const {
  if (!access().ask(question)) throw pool_closed("the pool has ended");
}

caf::actor spawn_pool(caf::actor_system& system, pool_options options) {
  return start_pool(std::move(options), &system)->supervisor();
}

namespace detail {

segment_source* segments_of(pool_handle&) noexcept {
  return &runtime::argument_segments::instance();
}

int processes_of(const pool_handle& pool) noexcept { return pool.processes(); }

std::shared_ptr<pool_handle> share(pool_handle& pool) { return pool.shared_from_this(); }

void submit(pool_handle& pool, const task_ref& task) { pool.submit(task); }

bool any_set(const task_options& o) noexcept {
  return o.on_start || o.on_timeout || !o.correlation_id.empty() || o.time_limit ||
         o.soft_time_limit || o.retry || o.priority != 0 || o.deadline;
}

void check_options(const task_options& options) {
  check_limit(options.time_limit, "task_options::time_limit");
  check_limit(options.soft_time_limit, "task_options::soft_time_limit");
  check_limit(options.deadline, "task_options::deadline");
  if (options.retry) check(*options.retry, "task_options::retry");
}

void set_options(task_node& task, task_options options) {
  check_options(options);
  const auto count = [](const std::optional<std::chrono::nanoseconds>& given) {
    return given ? given->count() : 0;
  };
  // Most tasks with options have only these, which the node itself holds.
  task.set_time_limits(count(options.time_limit), count(options.soft_time_limit));
  task.set_priority(options.priority);
  if (!options.on_start && !options.on_timeout && options.correlation_id.empty() &&
      !options.retry && !options.deadline)
    return;
  task_extra& extra = task.extra();
  extra.deadline_ns = count(options.deadline);
  extra.retry = options.retry;
  extra.on_start = std::move(options.on_start);
  extra.on_timeout = std::move(options.on_timeout);
  extra.correlation_id = std::move(options.correlation_id);
}

namespace {

bool ask_pool_of(task_node& node, const std::function<void(actors::supervisor&)>& question) {
  if (node.settled()) return false;
  const auto pool = pool_handle::find(node.pool());
  return pool && pool->ask(question);
}

}  // namespace

pid_t accepted_by(const task_node& node) {
  if (node.settled() || node.worker_pid() != 0) return node.worker_pid();
  auto& task = const_cast<task_node&>(node);
  pid_t pid = 0;
  ask_pool_of(task, [&](actors::supervisor& s) { pid = s.accepted_by(task); });
  return node.settled() ? node.worker_pid() : pid;
}

bool cancel(task_node& node) {
  bool ended = false;
  ask_pool_of(node, [&](actors::supervisor& s) { ended = s.cancel(node); });
  return ended;
}

bool terminate(task_node& node, int signal) {
  check_signal(signal);
  bool ended = false;
  ask_pool_of(node, [&](actors::supervisor& s) { ended = s.terminate_task(node, signal); });
  return ended;
}

}  // namespace detail
}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#include <carom/actor.hpp>
#include <carom/errors.hpp>
#include <carom/pool.hpp>
#include <stdexcept>

#include "actors/actor_runtime.hpp"
#include "actors/pool_handle.hpp"
#include "actors/supervisor.hpp"
#include "actors/worker.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/segment.hpp"

namespace carom {
namespace {

constexpr int most_processes = 4096;

void check(const pool_options& options) {
  if (options.processes < 1 || options.processes > most_processes)
    throw std::invalid_argument("pool_options::processes is " + std::to_string(options.processes) +
                                "; choose 1 to " + std::to_string(most_processes));
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
  actors::provide_workers();
  auto host = runtime::host_runtime::acquire(options.start_method);
  auto around = system ? std::make_shared<actors::actor_runtime>(std::move(host), *system)
                       : actors::actor_runtime::with_own_system(std::move(host));
  auto handle = std::make_shared<detail::pool_handle>(options);
  handle->enlist();
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

task_ref submit_chunks(pool_handle& pool, std::vector<task_ref> chunks, bool stop_at_error) {
  static const task_type parent_type{nullptr, "carom::map", false};
  task_ref parent(new task_node(parent_type, nullptr));
  parent->set_id(next_task_id(), pool.id());
  auto map = std::make_unique<map_state>();
  map->stop_at_error = stop_at_error;
  map->unsettled = chunks.size();
  map->chunks = std::move(chunks);
  const std::vector<task_ref>& all = map->chunks;
  parent->extra().map = std::move(map);
  if (all.empty()) {
    parent->settle(outcome_kind::value);
    return parent;
  }
  for (const task_ref& chunk : all) chunk->chunk()->parent = parent;
  std::size_t sent = 0;
  try {
    for (; sent < all.size(); ++sent) pool.submit(all[sent]);
  } catch (...) {
    // Those that stay here must not keep the parent, which keeps them.
    for (; sent < all.size(); ++sent) all[sent]->chunk()->parent = {};
    throw;
  }
  return parent;
}

void set_options(task_node& task, task_options options) {
  if (!options.on_start && options.correlation_id.empty()) return;
  task.extra().on_start = std::move(options.on_start);
  task.extra().correlation_id = std::move(options.correlation_id);
}

pid_t accepted_by(const task_node& node) {
  if (node.settled() || node.worker_pid() != 0) return node.worker_pid();
  const auto pool = pool_handle::find(node.pool());
  if (!pool || runtime::on_loop_thread()) return node.worker_pid();
  const auto [runtime, supervisor] = pool->reach();
  if (!supervisor) return node.worker_pid();
  pid_t pid = 0;
  caf::scoped_actor self{supervisor.home_system()};
  self->request(supervisor, caf::infinite, actors::accepted_atom::value, node.id())
      .receive([&pid](int found) { pid = found; }, [](const caf::error&) {});
  return node.settled() ? node.worker_pid() : pid;
}

}  // namespace detail
}  // namespace carom

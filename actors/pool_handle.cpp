// SPDX-License-Identifier: BSL-1.0
#include "actors/pool_handle.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <carom/errors.hpp>
#include <future>
#include <map>
#include <system_error>

#include "actors/supervisor.hpp"
#include "runtime/above_stdio.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/sliced_wait.hpp"
#include "runtime/task_ids.hpp"

namespace carom::detail {
namespace {

std::atomic<std::uint32_t> last_pool_id{0};

/// Pools by id, for handles that outlive them. Never destroyed: results may be asked at the end.
struct pool_list {
  std::mutex mutex;
  std::map<std::uint32_t, std::weak_ptr<pool_handle>> pools;
};

pool_list& all_pools() {
  static auto* one = new pool_list;
  return *one;
}

}  // namespace

pool_handle::pool_handle(const pool_options& options)
    : processes_(options.processes),
      overflow_(options.overflow),
      id_(++last_pool_id),
      room_(options.max_pending, options.max_pending_bytes) {}

pool_handle::~pool_handle() {
  if (const int fd = completion_fd_.load(); fd >= 0) ::close(fd);
  if (!mark_.original()) return;
  auto& all = all_pools();
  std::lock_guard lock(all.mutex);
  all.pools.erase(id_);
}

void pool_handle::enlist() {
  auto& all = all_pools();
  std::lock_guard lock(all.mutex);
  all.pools[id_] = weak_from_this();
}

std::shared_ptr<pool_handle> pool_handle::find(std::uint32_t id) {
  auto& all = all_pools();
  std::lock_guard lock(all.mutex);
  const auto it = all.pools.find(id);
  return it == all.pools.end() ? nullptr : it->second.lock();
}

void pool_handle::attach(caf::actor supervisor, std::shared_ptr<void> runtime) {
  std::lock_guard lock(mutex_);
  supervisor_ = std::move(supervisor);
  runtime_ = std::move(runtime);
}

pool_handle::contact pool_handle::reach() const {
  std::lock_guard lock(mutex_);
  return {runtime_, supervisor_};
}

caf::actor pool_handle::supervisor() const {
  std::lock_guard lock(mutex_);
  return supervisor_;
}

bool pool_handle::ask(const std::function<void(actors::supervisor&)>& question) {
  if (!mark_.original())
    throw pool_closed("this pool belongs to the process that this one was forked from");
  const auto [runtime, supervisor] = reach();
  if (!supervisor) return false;
  if (runtime::on_loop_thread()) {
    auto& here =
        *static_cast<actors::supervisor*>(caf::actor_cast<caf::abstract_actor*>(supervisor));
    if (here.over()) return false;
    question(here);
    return true;
  }
  auto asked = std::make_shared<actors::question::asked>(actors::question::asked{question, {}});
  auto answer = asked->answer.get_future();
  caf::anon_send(supervisor, actors::question{std::move(asked)});
  try {
    answer.get();
    return true;
  } catch (const std::future_error&) {
    return false;  // it ended before it came to that
  }
}

int pool_handle::completion_fd() {
  int fd = completion_fd_.load();
  if (fd >= 0) return fd;
  std::lock_guard lock(mutex_);
  if (completion_fd_.load() < 0) {
    runtime::unique_fd made =
        runtime::try_above_stdio(runtime::unique_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
    if (!made) throw std::system_error(errno, std::generic_category(), "eventfd");
    completion_fd_.store(made.release());
  }
  return completion_fd_.load();
}

void pool_handle::tell_completion() noexcept {
  const int fd = completion_fd_.load(std::memory_order_acquire);
  if (fd >= 0) ::eventfd_write(fd, 1);
}

void pool_handle::submit(const task_ref& task) { (void)submit(task, std::nullopt); }

bool pool_handle::submit(const task_ref& task, std::optional<std::chrono::nanoseconds> timeout) {
  using runtime::admission;
  check_open();
  const std::size_t bytes = task->payload().size();
  if (room_.limited() && !room_.try_enter(bytes)) {
    if (overflow_ == overflow::reject) throw queue_full();
    if (runtime::on_loop_thread())
      throw queue_full(
          "no room in the pool, and the loop thread, on which this callback runs, must not wait for "
          "it: submit from another thread, or give pool_options::executor one of yours");
    const auto how = room_.wait_to_enter(bytes, timeout);
    if (how == admission::entry::ended) throw_closed();
    if (how == admission::entry::late) return false;
  }
  hand_over(task, bytes);
  return true;
}

bool pool_handle::try_submit(const task_ref& task) {
  check_open();
  const std::size_t bytes = task->payload().size();
  if (room_.limited() && !room_.try_enter(bytes)) return false;
  hand_over(task, bytes);
  return true;
}

/// A task that has been let in.
void pool_handle::hand_over(const task_ref& task, std::size_t bytes) {
  if (room_.limited()) task->set_admitted_bytes(bytes);
  task->set_id(next_task_id(), id_);
  task->retain();
  if (push(task.get(), task.get())) return;
  task->release();
  if (room_.limited()) room_.leave(bytes);
  throw_closed();
}

std::size_t pool_handle::submit(std::span<const task_ref> tasks) {
  if (room_.limited()) {
    submit(tasks.front());
    return 1;
  }
  check_open();
  std::uint64_t id = next_task_ids(tasks.size()) - 1;
  task_node* newest = nullptr;
  for (const task_ref& task : tasks) {
    task->set_id(++id, id_);
    task->retain_unshared();
    newest = submit_queue::chained(task.get(), newest);
  }
  if (push(newest, tasks.front().get())) return tasks.size();
  for (const task_ref& task : tasks) task->release();
  throw_closed();
}

void pool_handle::check_open() const {
  if (!mark_.original())
    throw pool_closed(
        "this pool belongs to the process that this one was forked from: make a pool here");
  if (refusing_.load(std::memory_order_relaxed)) throw_closed();
}

/// False if the pool has ended: then the references are still the caller's. What has been pushed
/// cannot be taken back, nor may the loop sleep on it: without memory for the message this ends the
/// program.
bool pool_handle::push(task_node* newest, task_node* oldest) noexcept {
  const auto found = inbox_.push(newest, oldest);
  if (found == submit_queue::pushed::ring)
    if (const auto contact = reach(); contact.supervisor)
      caf::anon_send(contact.supervisor, actors::drain_atom::value);
  return found != submit_queue::pushed::closed;
}

void pool_handle::throw_closed() const {
  std::lock_guard lock(mutex_);
  if (refusal_.empty()) throw pool_closed();
  throw pool_closed(refusal_ + ": no task can be submitted any more");
}

void pool_handle::refuse(std::string why) {
  {
    std::lock_guard lock(mutex_);
    if (refusal_.empty()) refusal_ = std::move(why);
  }
  refusing_.store(true);
  room_.end();
}

void pool_handle::close() {
  if (!mark_.original()) return;
  refuse("the pool has been closed");
  if (const auto contact = reach(); contact.supervisor)
    caf::anon_send(contact.supervisor, actors::close_atom::value);
}

void pool_handle::terminate() {
  if (!mark_.original()) return;
  refuse("the pool has been terminated");
  if (const auto contact = reach(); contact.supervisor)
    caf::anon_send(contact.supervisor, actors::terminate_atom::value);
}

bool pool_handle::join(std::optional<std::chrono::nanoseconds> timeout) {
  if (!mark_.original())
    throw pool_closed("this pool belongs to the process that this one was forked from");
  if (runtime::on_loop_thread())
    throw error("join() on the loop thread would wait for itself: call it from another thread");
  std::unique_lock lock(mutex_);
  if (!refusing_)
    throw error("join() waits for a pool that ends: call close() or terminate() first");
  return runtime::wait_in_slices(changed_, lock, runtime::deadline_in(timeout),
                                 [&] { return finished_; });
}

void pool_handle::leave(const record& last) {
  std::lock_guard lock(mutex_);
  left_ = last;
}

pool_handle::record pool_handle::left() const {
  std::lock_guard lock(mutex_);
  return left_;
}

void pool_handle::finished() {
  {
    std::lock_guard lock(mutex_);
    finished_ = true;
  }
  changed_.notify_all();
}

void pool_handle::destroy() noexcept {
  if (!mark_.original()) {
    // A forked copy: the loop, the actors and the workers are the owner's. What this holds of them
    // cannot be taken down here, where their threads are not.
    new std::shared_ptr<pool_handle>(shared_from_this());
    return;
  }
  try {
    terminate();
    if (!runtime::on_loop_thread()) {
      // No checkpoint: this cannot throw, and the pool ends.
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return finished_; });
    }
  } catch (const std::exception&) {
    // Nothing to wait for.
  }
  contact gone;
  std::lock_guard lock(mutex_);
  std::swap(gone.supervisor, supervisor_);
  std::swap(gone.runtime, runtime_);
}

}  // namespace carom::detail

// SPDX-License-Identifier: BSL-1.0
#include "runtime/queue_handle.hpp"

#include <sys/socket.h>
#include <sys/stat.h>

#include <carom/errors.hpp>
#include <condition_variable>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "runtime/loop_thread.hpp"
#include "runtime/queue_memory.hpp"

namespace carom::detail {

using runtime::queue_client;
using runtime::queue_host;
using runtime::unique_fd;

namespace {

/// The inode of a socket of the kind that doors are, or 0.
std::uint64_t door_inode(int fd) noexcept {
  struct stat status {};
  int type = 0;
  socklen_t size = sizeof type;
  if (::fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode) ||
      ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET)
    return 0;
  return status.st_ino;
}

[[noreturn]] void throw_not_inherited() {
  throw process_error(
      "this process has not inherited the queue's descriptors: pass the queue as an argument");
}

/// Runs `f` on the loop and waits until it has.
void run_on(runtime::loop& events, const std::function<void()>& f) {
  struct state {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
  };
  const auto shared = std::make_shared<state>();
  events.post([shared, &f] {
    f();
    std::lock_guard lock(shared->mutex);
    shared->done = true;
    shared->changed.notify_all();
  });
  std::unique_lock lock(shared->mutex);
  shared->changed.wait(lock, [&] { return shared->done; });
}

}  // namespace

/// The queues that this process has handles of. A forked copy starts with an empty one: the lock of
/// this may be held by a thread that is not there.
struct queue_handle::registry {
  struct entry {
    std::weak_ptr<queue_handle> handle;
    std::weak_ptr<queue_host> here;
  };

  runtime::fork_mark mark;
  std::mutex mutex;
  std::unordered_map<std::uint64_t, entry> queues;

  static registry& instance() {
    // Never destroyed: handles may live until the very end.
    static std::atomic<registry*> current{new registry};
    registry* found = current.load(std::memory_order_acquire);
    while (!found->mark.original()) {
      auto* fresh = new registry;
      if (current.compare_exchange_strong(found, fresh, std::memory_order_acq_rel))
        found = fresh;
      else
        delete fresh;
    }
    return *found;
  }
};

queue_handle::queue_handle(description of, std::uint64_t id, registry& owner,
                           std::shared_ptr<queue_host> here,
                           std::shared_ptr<runtime::host_runtime> loop)
    : what_(std::move(of)),
      id_(id),
      owner_(&owner),
      here_(std::move(here)),
      loop_(std::move(loop)) {}

std::shared_ptr<queue_handle> queue_handle::begin(description of, std::shared_ptr<queue_host> here,
                                                  std::shared_ptr<runtime::host_runtime> loop) {
  auto& all = registry::instance();
  const std::uint64_t id = door_inode(of.door.get());
  std::shared_ptr<queue_handle> made(
      new queue_handle(std::move(of), id, all, here, std::move(loop)));
  std::lock_guard lock(all.mutex);
  all.queues[id] = {made, here};
  return made;
}

std::shared_ptr<queue_handle> queue_handle::find_or_make(description of) {
  const std::uint64_t id = door_inode(of.door.get());
  if (id == 0) throw encoding_error("a queue's handle came without its descriptors");
  auto& all = registry::instance();
  std::lock_guard lock(all.mutex);
  registry::entry& known = all.queues[id];
  if (auto found = known.handle.lock()) return found;
  auto here = known.here.lock();
  std::shared_ptr<runtime::host_runtime> loop;
  if (here) loop = runtime::host_runtime::acquire_loop();
  std::shared_ptr<queue_handle> made(
      new queue_handle(std::move(of), id, all, std::move(here), std::move(loop)));
  known.handle = made;
  return made;
}

bool queue_handle::original() const noexcept { return owner_->mark.original(); }

std::shared_ptr<queue_host> queue_handle::here() const { return original() ? here_ : nullptr; }

queue_handle::~queue_handle() {
  queue_client* const client = client_.load();
  if (client && !client->original())
    client->abandon();
  else
    delete client;
  if (!original()) {
    // A forked copy: the loop is another process's, and what somebody has closed here as private
    // may be another descriptor by now.
    if (door_inode(what_.door.get()) != id_) (void)what_.door.release();
    (void)what_.host_pidfd.release();
    new std::shared_ptr(std::move(here_));
    new std::shared_ptr(std::move(loop_));
    return;
  }
  {
    std::lock_guard lock(owner_->mutex);
    const auto known = owner_->queues.find(id_);
    if (known != owner_->queues.end() && known->second.handle.expired() && !here_)
      owner_->queues.erase(known);
  }
  what_.door.reset();
  if (!here_) return;
  // The last handle of all, mostly: the queue ends here and now, and its loop with it.
  if (runtime::on_loop_thread())
    here_->look_for_end();
  else
    run_on(loop_->events(), [this] { here_->look_for_end(); });
  here_.reset();
  std::lock_guard lock(owner_->mutex);
  std::erase_if(owner_->queues, [](const auto& known) {
    return known.second.handle.expired() && known.second.here.expired();
  });
}

queue_client& queue_handle::client() {
  queue_client* const found = client_.load(std::memory_order_acquire);
  return found && found->original() ? *found : connect();
}

queue_client& queue_handle::connect() {
  queue_client* found = client_.load(std::memory_order_acquire);
  if (door_inode(what_.door.get()) != id_) throw_not_inherited();
  const bool local = here_ && original();
  auto fresh = std::make_unique<queue_client>(
      queue_client::ends{what_.door.get(), local ? -1 : what_.host_pidfd.get(), what_.maxsize,
                         local ? here_.get() : nullptr});
  for (;;) {
    if (found && found->original()) return *found;  // another thread was faster
    if (client_.compare_exchange_strong(found, fresh.get(), std::memory_order_acq_rel)) break;
  }
  if (found) found->abandon();  // of the process that this one was forked from
  return *fresh.release();
}

// --- what queues are made of ---------------------------------------------------------------------

void pack_queue(byte_writer& out, const queue_handle& queue) {
  const auto& what = queue.what();
  if (door_inode(what.door.get()) != queue.id()) throw_not_inherited();
  out.put_raw(static_cast<unsigned char>(what.joinable));
  out.put_raw(what.maxsize);
  out.put_descriptor(what.door.get());
  out.put_descriptor(what.host_pidfd.get());
}

std::shared_ptr<queue_handle> unpack_queue(byte_reader& in, bool joinable) {
  queue_handle::description of;
  const auto is_joinable = in.get_raw<unsigned char>();
  if (is_joinable > 1) throw_corrupt("a queue's handle");
  of.joinable = is_joinable;
  if (joinable && !of.joinable) throw_corrupt("a queue that is not joinable for one that is");
  in.get_raw(of.maxsize);
  if (of.maxsize > static_cast<std::uint64_t>(INT64_MAX)) throw_corrupt("a queue's size");
  of.door.reset(in.get_descriptor());
  of.host_pidfd.reset(in.get_descriptor());
  return queue_handle::find_or_make(std::move(of));
}

blob queue_item_blob() { return blob(&runtime::queue_memory::instance()); }

bool queue_put(queue_handle& queue, const blob& item, const queue_wait& until) {
  return queue.client().put(item, until);
}
bool queue_get(queue_handle& queue, queue_received& into, const queue_wait& until) {
  return queue.client().get(into, until);
}
std::uint64_t queue_size(queue_handle& queue) { return queue.client().size(); }
std::uint64_t queue_maxsize(const queue_handle& queue) noexcept { return queue.what().maxsize; }
std::uint64_t queue_id(const queue_handle& queue) noexcept { return queue.id(); }

void queue_task_done(queue_handle& queue) {
  if (!queue.client().task_done())
    throw process_error(
        "task_done() was called more often than items were put: call it once for each item");
}
bool queue_join(queue_handle& queue, const queue_wait& until) { return queue.client().join(until); }
void queue_close(queue_handle& queue) { queue.client().close(); }

void queue_join_thread(queue_handle& queue, const queue_wait& until) {
  if (queue.join_thread_cancelled()) return;
  if (!queue.client().flush(until))
    throw timeout_error(
        "the queue's host has not taken in all that this process has put: it is busy or stopped; "
        "it still will, also when this process has ended");
}
void queue_cancel_join_thread(queue_handle& queue) noexcept { queue.cancel_join_thread(); }

void throw_no_queue() { throw process_error("this queue object was moved from"); }

}  // namespace carom::detail

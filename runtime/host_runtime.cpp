// SPDX-License-Identifier: BSL-1.0
#include "runtime/host_runtime.hpp"

#include <pthread.h>

#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>

#include "runtime/direct_fork.hpp"
#include "runtime/executable.hpp"
#include "runtime/fork_server_process.hpp"
#include "runtime/log.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/process_state.hpp"
#include "runtime/segment.hpp"
#include "runtime/signals_held_back.hpp"
#include "runtime/worker_identity.hpp"

namespace carom::runtime {

/// Shared with the loop's thread, so that the last pool may go on that thread itself.
struct host_runtime::impl final : fork_server::events {
  loop events_loop;
  fork_server* server = nullptr;  // the process's; null where only direct forks are possible
  std::unique_ptr<loop::watch> readable;
  std::unique_ptr<loop::watch> writable;
  std::unordered_map<std::uint64_t, worker_events*> listeners;
  std::unordered_map<std::uint64_t, direct_child> direct;
  std::unique_ptr<loop::timer> linger_timer;
  std::unique_ptr<loop::timer> retry_timer;

  void watch_server() {
    if (!server) return;
    readable = events_loop.on_readable(server->fd(), [this] {
      server->read(*this);
      watch_writable();
      if (server->contact_lost()) readable.reset();
    });
  }

  void watch_writable() {
    if (!server->wants_write()) {
      writable.reset();
    } else if (server->starved()) {
      // It can be written to, says the kernel, and then it cannot: the loop would spin.
      writable.reset();
      if (!retry_timer)
        retry_timer = events_loop.make_timer([this] {
          if (!server_is_usable()) return;
          server->flush();
          watch_writable();
        });
      retry_timer->arm(std::chrono::milliseconds(retry_ms));
    } else if (!writable) {
      writable = events_loop.on_writable(server->fd(), [this] {
        server->flush();
        // Not from inside the watch's own call.
        if (!server->wants_write() || server->starved())
          events_loop.post([this] { watch_writable(); });
      });
    }
  }

  /// Whether workers can be forked there. Not where this program has closed the descriptor: nothing
  /// may be sent to what has its number now.
  bool server_is_usable() {
    if (!server || server->contact_lost()) return false;
    if (server->intact()) return true;
    // Not from inside of a watch's own call.
    events_loop.post([this] {
      readable.reset();
      writable.reset();
      if (!server->contact_lost()) server->abandon(*this);
    });
    return false;
  }

  worker_events* listener(std::uint64_t id) {
    const auto it = listeners.find(id);
    return it == listeners.end() ? nullptr : it->second;
  }

  void forked(std::uint64_t id, pid_t pid, unique_fd pidfd) override {
    if (auto* to = listener(id)) to->forked(id, pid, std::move(pidfd));
  }
  void fork_failed(std::uint64_t id, int error) override {
    if (auto* to = listener(id)) to->fork_failed(id, error);
  }
  void exited(std::uint64_t id, const exit_info& info) override {
    if (auto* to = listener(id)) to->exited(id, info);
  }
  void lost_contact() override {
    if (server->fd() < 0)
      log()->error(
          "the descriptor of the fork server was closed by this program, as closefrom(3) does; no "
          "worker can be made while it has pools or processes");
    else
      log()->error(
          "keeper and fork server are both gone; no worker can be made until the program restarts");
    std::vector<std::uint64_t> ids;
    for (const auto& [id, to] : listeners)
      if (!direct.contains(id)) ids.push_back(id);
    for (const std::uint64_t id : ids)
      if (auto* to = listener(id)) to->contact_lost(id);
  }

  void direct_exited(std::uint64_t id) {
    const auto it = direct.find(id);
    if (it == direct.end()) return;
    const exit_info info = it->second.reap();
    direct.erase(it);
    if (server) server->disown(id);
    exited(id, info);
  }
};

namespace {

/// Before this library has threads of its own: what is counted is the host's.
void warn_of_threads() {
  static std::atomic<bool> warned{false};
  const no_stop_helper alone;
  if (const int threads = count_threads(); threads > 1 && !warned.exchange(true))
    log()->warn(
        "start_method::fork in a process with {} threads: a worker copies their locks in whatever "
        "state they are; prefer start_method::forkserver and carom::init",
        threads);
}

}  // namespace

std::shared_ptr<host_runtime> host_runtime::acquire(start_method method) {
  auto& state = process_state::instance();
  std::unique_lock lock(state.mutex);
  // The last pool's loop may be on its way out: one loop at a time speaks with the fork server.
  if (state.runtime.expired() && !on_loop_thread())
    state.loop_ended.wait(lock, [&] { return !state.loop_runs; });
  auto found = state.runtime.lock();
  if (method == start_method::fork && !found) warn_of_threads();
  if (!found || !found->impl_->server) {
    try {
      state.start_fork_server();
    } catch (const start_method_error&) {
      // A direct fork does without; its workers then learn of the host's end by their channels.
      // Only /proc tells what they leave behind.
      if (method != start_method::fork || count_threads() == 0) throw;
    }
  }
  if (!found) {
    found.reset(new host_runtime);
    state.runtime = found;
    state.loop_runs = true;
  }
  return found;
}

std::shared_ptr<host_runtime> host_runtime::acquire_loop() {
  auto& state = process_state::instance();
  std::unique_lock lock(state.mutex);
  if (state.runtime.expired() && !on_loop_thread())
    state.loop_ended.wait(lock, [&] { return !state.loop_runs; });
  auto found = state.runtime.lock();
  if (!found) {
    found.reset(new host_runtime);
    state.runtime = found;
    state.loop_runs = true;
  }
  return found;
}

host_runtime::host_runtime() : impl_(std::make_shared<impl>()) {
  process_state::instance().drop_closed_server();
  impl_->server = process_state::instance().server.get();
  impl_->watch_server();
  const signals_held_back from_the_loop;
  thread_ = std::thread([shared = impl_] {
    ::pthread_setname_np(::pthread_self(), "carom-loop");
    shared->events_loop.run();
    shared->readable.reset();
    shared->writable.reset();
    shared->direct.clear();
    argument_segments::instance().trim();
    auto& state = process_state::instance();
    std::lock_guard lock(state.mutex);
    state.loop_runs = false;
    state.loop_ended.notify_all();
  });
  // From here: whoever looks at this process's threads finds none without its name.
  ::pthread_setname_np(thread_.native_handle(), "carom-loop");
}

host_runtime::~host_runtime() {
  impl_->events_loop.stop();
  if (impl_->events_loop.in_loop_thread())
    thread_.detach();
  else
    thread_.join();
}

loop& host_runtime::events() noexcept { return impl_->events_loop; }

std::uint64_t host_runtime::next_worker_id() {
  auto& state = process_state::instance();
  std::lock_guard lock(state.mutex);
  return state.next_worker_id++;
}

void host_runtime::fork_worker(std::uint64_t id, start_method method, unique_fd worker_end,
                               worker_events& to) {
  impl_->listeners[id] = &to;
  if (method != start_method::fork) {
    if (!impl_->server_is_usable()) {
      // Not from inside of this call: the caller is in the middle of something.
      impl_->events_loop.post([shared = impl_, id] { shared->fork_failed(id, ESRCH); });
      return;
    }
    if (method == start_method::spawn) worker_end = write_launch(std::move(worker_end));
    impl_->server->fork(id, std::move(worker_end));
    impl_->watch_writable();
    return;
  }
  direct_child child = fork_directly(std::move(worker_end), current_child_hooks());
  if (!child.valid()) {
    const int error = child.error();
    impl_->events_loop.post([shared = impl_, id, error] { shared->fork_failed(id, error); });
    return;
  }
  unique_fd for_listener = child.duplicate_pidfd();
  const pid_t pid = child.pid();
  try {
    if (impl_->server_is_usable()) {
      impl_->server->adopt(id, child.guardian(), child.pidfd());
      impl_->watch_writable();
    }
    child.watch = impl_->events_loop.on_readable(child.pidfd(), [raw = impl_.get(), id] {
      const auto it = raw->direct.find(id);
      // Readiness is a hint: it may have been meant for a descriptor closed a moment ago.
      if (it == raw->direct.end() || !has_ended(it->second.pidfd())) return;
      raw->events_loop.post([raw, id] { raw->direct_exited(id); });
      it->second.watch.reset();
    });
    impl_->direct.emplace(id, std::move(child));
  } catch (...) {
    // The caller hears that there is no such worker, so there shall be none.
    impl_->listeners.erase(id);
    child.end();
    if (impl_->server) impl_->server->disown(id);
    throw;
  }
  to.forked(id, pid, std::move(for_listener));
}

unique_fd host_runtime::worker_pidfd(std::uint64_t id) const {
  const auto it = impl_->direct.find(id);
  return it == impl_->direct.end() ? unique_fd() : it->second.duplicate_worker_pidfd();
}

void host_runtime::linger(std::shared_ptr<host_runtime> one) {
  constexpr auto moment = std::chrono::milliseconds(20);
  auto& shared = *one->impl_;
  if (!shared.linger_timer) shared.linger_timer = shared.events_loop.make_timer(&end_lingering);
  {
    auto& state = process_state::instance();
    std::lock_guard lock(state.mutex);
    state.lingering.swap(one);
  }
  shared.linger_timer->arm(moment);
}

CAROM_START_PATH void host_runtime::end_lingering() {
  auto* const state = process_state::existing();
  if (!state) return;
  std::shared_ptr<host_runtime> last;
  std::lock_guard lock(state->mutex);
  last.swap(state->lingering);
}

void host_runtime::signal_group(std::uint64_t id, int signal) {
  if (auto it = impl_->direct.find(id); it != impl_->direct.end()) {
    it->second.signal_group(signal);
  } else if (impl_->server_is_usable()) {
    impl_->server->signal_group(id, signal);
    impl_->watch_writable();
  }
}

void host_runtime::forget(std::uint64_t id) { impl_->listeners.erase(id); }

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <carom/detail/exception_codec.hpp>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <carom/stop_token.hpp>
#include <carom/this_task.hpp>
#include <carom/this_worker.hpp>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/clock.hpp"
#include "runtime/futex.hpp"
#include "runtime/signals_held_back.hpp"
#include "runtime/worker_identity.hpp"

// What a running task can ask: who it is, and whether it should end.
namespace carom::runtime {
namespace {

/// The soft_key that the running task's error was thrown for, and what to call before; the task's
/// thread.
CAROM_START_DATA std::uint64_t thrown_for = 0;
CAROM_START_DATA std::unique_ptr<std::function<void()>> before_throwing;
/// Other threads that a task has made wait as any do: a limit is the task's own to hear of.
thread_local bool runs_tasks = false;

bool passed(std::uint64_t key) noexcept {
  const worker_page* page = identity().page;
  return page && key != 0 && page->header.soft_limit.load(std::memory_order_acquire) == key;
}

/// The host stops signalling once it sees this.
void notice(std::uint64_t key) noexcept {
  identity().page->header.soft_noticed.store(key, std::memory_order_release);
}

[[noreturn]] void throw_soft_limit() {
  const page_header& header = identity().page->header;
  time_limit_info info;
  info.task_name.assign(header.soft_name.data(),
                        ::strnlen(header.soft_name.data(), header.soft_name.size()));
  info.task_id = running().task_id.load(std::memory_order_relaxed);
  info.limit = std::chrono::nanoseconds(header.soft_limit_ns);
  info.run_time =
      std::chrono::nanoseconds(steady_ns() - running().started_ns.load(std::memory_order_relaxed));
  info.pid = identity().pid;
  throw soft_time_limit_exceeded(std::move(info));
}

/// The thread behind std::stop_token: waits for bells, and stops the sources whose key they name.
class stop_helper {
 public:
  /// Never destroyed: its thread may be waiting when the process ends.
  static stop_helper& instance() {
    stop_helper* found = find();
    if (found) return *found;
    auto made = std::make_unique<stop_helper>();
    if (!current().compare_exchange_strong(found, made.get())) return *found;
    return *made.release();
  }
  static stop_helper* find() noexcept { return current().load(std::memory_order_acquire); }
  /// In a forked copy, where its thread is not and its lock may be held.
  static void leave_behind() noexcept { current().store(nullptr); }

  std::stop_token token(std::uint64_t key) {
    std::lock_guard lock(mutex_);
    // Those of tasks that are over are of no use to anybody.
    std::erase_if(sources_, [](const entry& e) {
      return e.key != running().key.load(std::memory_order_relaxed);
    });
    start();
    for (const entry& e : sources_)
      if (e.key == key) return e.source.get_token();
    sources_.push_back({key, {}});
    if (passed(key)) sources_.back().source.request_stop();
    return sources_.back().source.get_token();
  }

  /// Ends the thread, until `resume` or the next token. False if there is none, or this is it.
  bool pause() {
    std::thread ending;
    {
      std::lock_guard lock(mutex_);
      if (!thread_.joinable() || thread_.get_id() == std::this_thread::get_id()) return false;
      leaves_ = true;
      ending = std::move(thread_);
    }
    auto& bell = identity().page->header.soft_bell;
    bell.fetch_add(1, std::memory_order_seq_cst);
    futex_wake_all_shared(bell);
    ending.join();
    // The kernel tells the joiner a little before it forgets the thread.
    while (::tgkill(::getpid(), tid_, 0) == 0) ::sched_yield();
    return true;
  }
  void resume() {
    std::lock_guard lock(mutex_);
    start();
  }

 private:
  struct entry {
    std::uint64_t key;
    std::stop_source source;
  };

  static std::atomic<stop_helper*>& current() noexcept {
    CAROM_START_DATA static std::atomic<stop_helper*> one{nullptr};
    return one;
  }

  void start() {
    if (thread_.joinable()) return;
    leaves_ = false;
    // Signals are the main thread's.
    const signals_held_back from_the_thread;
    thread_ = std::thread([this] { run(); });
  }

  void run() {
    auto& bell = identity().page->header.soft_bell;
    for (;;) {
      const std::uint32_t heard = bell.load(std::memory_order_seq_cst);
      std::vector<std::stop_source> due;
      {
        std::lock_guard lock(mutex_);
        tid_ = ::gettid();
        if (leaves_) return;
        for (const entry& e : sources_)
          if (passed(e.key)) due.push_back(e.source);
      }
      for (auto& source : due) source.request_stop();
      futex_wait_shared(bell, heard, std::nullopt);
    }
  }

  std::mutex mutex_;
  std::deque<entry> sources_;
  std::thread thread_;
  pid_t tid_ = 0;
  bool leaves_ = false;
};

void on_soft_signal(int) {}

}  // namespace

CAROM_START_PATH worker_identity& identity() noexcept {
  CAROM_START_DATA static worker_identity one;
  return one;
}

CAROM_START_PATH running_state& running() noexcept {
  CAROM_START_DATA static running_state one;
  return one;
}

CAROM_START_PATH void begin_soft_limits(std::uint64_t key, std::int64_t now_ns) noexcept {
  runs_tasks = true;
  if (before_throwing) before_throwing.reset();
  running().started_ns.store(now_ns, std::memory_order_relaxed);
  running().key.store(key, std::memory_order_relaxed);
}

CAROM_START_PATH void end_soft_limits() noexcept {
  running().key.store(0, std::memory_order_relaxed);
  if (before_throwing) before_throwing.reset();
}

CAROM_START_PATH void leave_soft_limits_behind() noexcept {
  running().key.store(0, std::memory_order_relaxed);
  thrown_for = 0;
  runs_tasks = false;
  // Not destroyed: what it holds is the parent's.
  (void)before_throwing.release();
  stop_helper::leave_behind();
}

no_stop_helper::no_stop_helper() {
  if (auto* const helper = stop_helper::find()) paused_ = helper->pause();
}
no_stop_helper::~no_stop_helper() {
  if (paused_) stop_helper::instance().resume();
}

bool soft_limit_is_due() noexcept {
  const std::uint64_t key = running().key.load(std::memory_order_relaxed);
  return runs_tasks && passed(key) && thrown_for != key;
}

void install_soft_signal() noexcept {
  struct sigaction action {};
  action.sa_handler = &on_soft_signal;  // without SA_RESTART: that is what it is for
  ::sigaction(SIGUSR1, &action, nullptr);
}

CAROM_START_PATH bool has_soft_signal() noexcept {
  struct sigaction now {};
  return ::sigaction(SIGUSR1, nullptr, &now) == 0 && now.sa_handler == &on_soft_signal;
}

CAROM_START_PATH void remove_soft_signal() noexcept {
  if (has_soft_signal()) ::signal(SIGUSR1, SIG_DFL);
}

}  // namespace carom::runtime

namespace carom {

using namespace runtime;

std::uint64_t this_task::id() noexcept { return running().task_id.load(std::memory_order_relaxed); }
int this_worker::index() noexcept { return identity().index; }
pid_t this_worker::pid() noexcept { return identity().pid; }

void this_task::checkpoint() {
  if (!soft_limit_is_due()) return;
  const std::uint64_t key = running().key.load(std::memory_order_relaxed);
  thrown_for = key;
  notice(key);
  if (const auto call = std::exchange(before_throwing, nullptr)) (*call)();
  throw_soft_limit();
}

stop_token this_task::stop_token() noexcept {
  return carom::stop_token(running().key.load(std::memory_order_relaxed));
}

void this_task::sleep_for(std::chrono::nanoseconds duration) {
  using clock = std::chrono::steady_clock;
  const auto now = clock::now();
  const auto until =
      duration > clock::time_point::max() - now ? clock::time_point::max() : now + duration;
  worker_page* const page = identity().page;
  do {
    if (!page) {
      std::this_thread::sleep_until(until);
      return;
    }
    auto& bell = page->header.soft_bell;
    const std::uint32_t heard = bell.load(std::memory_order_seq_cst);
    checkpoint();
    futex_wait_shared(bell, heard, until);
  } while (clock::now() < until);
  checkpoint();
}

void this_task::on_soft_time_limit(std::function<void()> f) {
  if (running().key.load(std::memory_order_relaxed) == 0) return;
  before_throwing = f ? std::make_unique<std::function<void()>>(std::move(f)) : nullptr;
}

void this_task::progress(std::uint64_t done, std::uint64_t total) noexcept {
  worker_page* const page = identity().page;
  const std::uint64_t task = id();
  if (!page || task == 0) return;
  page_header& header = page->header;
  if (header.progress_task.load(std::memory_order_relaxed) != task)
    header.progress_task.store(0, std::memory_order_release);
  header.progress_done.store(done, std::memory_order_relaxed);
  header.progress_total.store(total, std::memory_order_relaxed);
  header.progress_task.store(task, std::memory_order_release);
}

bool stop_token::stop_requested() const noexcept {
  if (!passed(key_)) return false;
  notice(key_);
  return true;
}

stop_token::operator std::stop_token() const {
  if (key_ == 0 || !identity().page) return {};  // of no task of this process
  return stop_helper::instance().token(key_);
}

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#include "runtime/child_process.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <carom/this_task.hpp>
#include <stdexcept>

#include "runtime/futex.hpp"
#include "runtime/log.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/process_state.hpp"

namespace carom::runtime {

namespace {

using clock = std::chrono::steady_clock;

/// What exitcode() says when nobody could tell.
constexpr int unknown_exit = 255;

int code_of(const exit_info& info) {
  if (!info.known) return unknown_exit;
  return WIFSIGNALED(info.status) ? -WTERMSIG(info.status) : WEXITSTATUS(info.status);
}

}  // namespace

child_process::deadline child_process::after(std::optional<std::chrono::nanoseconds> timeout) {
  const auto now = clock::now();
  if (!timeout || *timeout > clock::time_point::max() - now) return std::nullopt;
  return now + *timeout;
}

child_process::child_process(packed_call call, process_options options)
    : owner_(::getpid()), call_(std::move(call)), options_(std::move(options)) {
  if (options_.start_timeout.count() <= 0)
    throw std::invalid_argument("process_options::start_timeout must be positive");
  if (options_.kill_grace.count() < 0)
    throw std::invalid_argument("process_options::kill_grace must not be negative");
  auto named = own_process::instance().name_next_child();
  identity_ = std::move(named.identity);
  if (options_.name.empty()) options_.name = std::move(named.name);
  if (!options_.daemon) options_.daemon = own_process::instance().daemon();
}

child_process::~child_process() {
  if (is_owner()) return;
  // In a forked copy the loop is another's, its thread is not there, and the number of the pidfd
  // may be in use again.
  if (runtime_) new std::shared_ptr<host_runtime>(std::move(runtime_));
  (void)watch_.release();
  if (pid_behind(::getpid(), pidfd_.get()) != pid_) (void)pidfd_.release();
}

std::string child_process::label() const {
  std::lock_guard lock(mutex_);
  return "process '" + options_.name + "'";
}

void child_process::check_owner() const {
  if (!is_owner())
    throw process_error(label() + " is a child of process " + std::to_string(owner_) +
                        ", of which this one is a copy: use it there");
}

void child_process::check_started() const {
  check_owner();
  const auto stage = stage_.load(std::memory_order_acquire);
  if (stage != running && stage != ended)
    throw process_error(label() + " has not been started: call start() first");
  std::lock_guard lock(mutex_);
  if (closed_) throw process_error("process '" + options_.name + "' has been closed");
}

void child_process::check_made(const char* what) const {
  check_owner();
  if (stage_.load(std::memory_order_acquire) != made)
    throw process_error(label() + " has been started: its " + what + " cannot be changed any more");
}

std::string child_process::name() {
  std::lock_guard lock(mutex_);
  return options_.name;
}

void child_process::set_name(std::string name) {
  check_made("name");
  std::lock_guard lock(mutex_);
  options_.name = std::move(name);
}

bool child_process::daemon() {
  std::lock_guard lock(mutex_);
  return *options_.daemon;
}

void child_process::set_daemon(bool daemon) {
  check_made("daemon flag");
  std::lock_guard lock(mutex_);
  options_.daemon = daemon;
}

std::string child_process::authkey() {
  {
    std::lock_guard lock(mutex_);
    if (authkey_) return *authkey_;
  }
  return own_process::instance().authkey();
}

void child_process::set_authkey(std::string key) {
  check_made("authkey");
  std::lock_guard lock(mutex_);
  authkey_ = std::move(key);
}

bool child_process::wait_for_end(const deadline& until, bool in_a_task) {
  for (;;) {
    if (in_a_task) this_task::checkpoint();
    const std::uint32_t seen = stage_.load(std::memory_order_acquire);
    if (seen == ended || seen == made || seen == failed) return seen == ended;
    if (until && clock::now() >= *until) return false;
    futex_wait(stage_, seen, until);
  }
}

bool child_process::join(std::optional<std::chrono::nanoseconds> timeout) {
  check_started();
  if (stage_.load(std::memory_order_acquire) == ended) return true;
  if (on_loop_thread())
    throw process_error("join() on the loop thread would wait for itself: join " + label() +
                        " from a thread of your own");
  return wait_for_end(after(timeout), true);
}

void child_process::signal(int number) {
  check_owner();
  const auto stage = stage_.load(std::memory_order_acquire);
  if (stage == made || stage == starting || stage == failed)
    throw process_error(label() + " has not been started: there is nothing to signal");
  std::lock_guard lock(mutex_);
  if (!runtime_) return;  // it has ended
  runtime_->events().post(
      [runtime = runtime_, id = id_, number] { runtime->signal_group(id, number); });
}

void child_process::terminate_controlled() {
  signal(SIGTERM);
  controlled_ = true;
}

bool child_process::is_alive() {
  check_owner();
  if (stage_.load(std::memory_order_acquire) != running) return false;
  std::lock_guard lock(mutex_);
  return !pidfd_ || !has_ended(pidfd_.get());
}

std::optional<int> child_process::exitcode() {
  if (!is_owner()) check_owner();
  const auto stage = stage_.load(std::memory_order_acquire);
  if (stage == running && !on_loop_thread() && !is_alive())
    // Its end is seen, how it was is on its way.
    wait_for_end(after(std::chrono::seconds(2)), false);
  if (stage_.load(std::memory_order_acquire) != ended) return std::nullopt;
  std::lock_guard lock(mutex_);
  return code_of(exit_);
}

int child_process::sentinel() {
  check_started();
  std::lock_guard lock(mutex_);
  if (!pidfd_) throw process_error("process '" + options_.name + "' has no pidfd: none was free");
  return pidfd_.get();
}

void child_process::close() {
  check_owner();
  const auto stage = stage_.load(std::memory_order_acquire);
  if (stage == running || stage == starting)
    throw process_error(label() + " still runs: join or terminate it before close()");
  std::lock_guard lock(mutex_);
  closed_ = true;
  pidfd_.reset();
}

void child_process::wait_while_starting() noexcept {
  while (stage_.load(std::memory_order_acquire) == starting)
    futex_wait(stage_, starting, std::nullopt);
}

void child_process::abandon() noexcept {
  if (is_owner() && !on_loop_thread()) wait_while_starting();
  const auto stage = stage_.load(std::memory_order_acquire);
  if (!is_owner() || on_loop_thread() || stage != running) return;
  try {
    if (daemon()) {
      signal(SIGTERM);
      if (!wait_for_end(after(options_.kill_grace), false)) signal(SIGKILL);
    }
  } catch (const std::exception& e) {
    log()->error("{} cannot be ended: {}", label(), e.what());
  }
  wait_for_end(std::nullopt, false);
}

CAROM_START_PATH std::vector<std::shared_ptr<child_process>> child_process::active() {
  std::vector<std::shared_ptr<child_process>> all;
  if (auto* const state = process_state::existing()) {
    std::lock_guard lock(state->children_mutex);
    for (const auto& [id, child] : state->children) all.push_back(child);
  }
  return all;
}

CAROM_START_PATH void child_process::end_all() noexcept try {
  const bool may_wait = !on_loop_thread();
  for (auto all = active(); !all.empty(); all = active()) {
    std::erase_if(all, [&](const auto& child) {
      if (may_wait) child->wait_while_starting();
      return child->stage_.load(std::memory_order_acquire) != running;
    });
    const auto daemons =
        std::partition(all.begin(), all.end(), [](const auto& child) { return !child->daemon(); });
    std::for_each(daemons, all.end(), [](const auto& child) { child->signal(SIGTERM); });
    if (!may_wait) return;
    const auto begin = clock::now();
    std::for_each(daemons, all.end(), [&](const auto& child) {
      if (!child->wait_for_end(begin + child->options_.kill_grace, false)) child->signal(SIGKILL);
      child->wait_for_end(std::nullopt, false);
    });
    std::for_each(all.begin(), daemons,
                  [](const auto& child) { child->wait_for_end(std::nullopt, false); });
  }
  if (may_wait) host_runtime::end_lingering();
} catch (const std::exception& e) {
  log()->error("children cannot be ended: {}", e.what());
}

}  // namespace carom::runtime

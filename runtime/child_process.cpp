// SPDX-License-Identifier: BSL-1.0
#include "runtime/child_process.hpp"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>
#include <carom/this_task.hpp>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "runtime/executable.hpp"
#include "runtime/futex.hpp"
#include "runtime/log.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/modules.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/process_state.hpp"
#include "runtime/segment.hpp"
#include "serialization/worker_messages.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

using clock = std::chrono::steady_clock;

/// Longer set-ups go through memory, so that all that a child is told fits into its channel before
/// anybody reads it.
constexpr std::size_t longest_inline = 16 * 1024;

/// What exitcode() says when nobody could tell.
constexpr int unknown_exit = 255;

int code_of(const exit_info& info) {
  if (!info.known) return unknown_exit;
  return WIFSIGNALED(info.status) ? -WTERMSIG(info.status) : WEXITSTATUS(info.status);
}

std::optional<clock::time_point> after(std::optional<std::chrono::nanoseconds> timeout) {
  const auto now = clock::now();
  if (!timeout || *timeout > clock::time_point::max() - now) return std::nullopt;
  return now + *timeout;
}

void send_all(channel& to, const std::vector<std::byte>& bytes, const std::vector<int>& fds = {}) {
  if (const std::error_code error = to.send(bytes, fds))
    throw process_error("a process cannot be told what to do: " + error.message());
}

}  // namespace

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

// --- start ---------------------------------------------------------------------------------------

void child_process::start() {
  check_owner();
  if (on_loop_thread())
    throw process_error("start() on the loop thread would wait for itself: start " + label() +
                        " from a thread of your own");
  std::uint32_t expected = made;
  if (!stage_.compare_exchange_strong(expected, starting))
    throw process_error(label() + " was started before: make a new one to run the function again");
  try {
    run_start();
  } catch (...) {
    take_back_start();
    throw;
  }
}

void child_process::run_start() {
  {
    std::lock_guard lock(mutex_);
    if (closed_) throw process_error("process '" + options_.name + "' has been closed");
  }
  install_exit_guard();
  if (options_.start_method == start_method::spawn) require_executable();
  auto runtime = host_runtime::acquire(options_.start_method);
  auto [ours, theirs] = channel::make_pair();
  write_messages(ours);
  auto& state = process_state::instance();
  id_ = host_runtime::next_worker_id();
  {
    std::lock_guard lock(mutex_);
    runtime_ = runtime;
  }
  {
    std::lock_guard lock(state.children_mutex);
    state.children.emplace(id_, shared_from_this());
  }
  runtime->events().post([self = shared_from_this(), runtime, end = theirs.release().release()] {
    unique_fd worker_end(end);
    try {
      runtime->fork_worker(self->id_, self->options_.start_method, std::move(worker_end), *self);
    } catch (const std::exception& e) {
      log()->error("{} cannot be started: {}", self->label(), e.what());
      self->fork_failed(self->id_, EAGAIN);
    }
  });
  while (stage_.load(std::memory_order_acquire) == starting)
    futex_wait(stage_, starting, std::nullopt);
  if (stage_.load(std::memory_order_acquire) == failed)
    throw process_error(label() + " cannot be started: " +
                        (error_ == ESRCH ? "the fork server is gone" : ::strerror(error_)));
  if (options_.start_method == start_method::spawn) await_answer(ours);
  // Its descriptors here would hide the end of a pipe from whoever reads that.
  call_ = {};
}

/// Everything that the child reads; waits in its channel before there is a child.
void child_process::write_messages(channel& to) {
  process_message told;
  told.origin = own_process::instance().origin_of_child();
  if (probe_) told.origin.after_fork.clear();
  told.log_level = log_level();
  const auto entry = detail::to_code_ref(detail::call_access::entry(call_));
  told.entry = {entry.module, entry.offset};
  const auto arguments = detail::call_access::arguments(call_);
  told.arguments.assign(reinterpret_cast<const char*>(arguments.data()), arguments.size());
  told.answers = options_.start_method == start_method::spawn;
  const auto* list = detail::call_access::descriptors(call_);
  const auto all = list ? list->entries() : std::span<const detail::descriptor_list::entry>();
  told.descriptor_messages =
      static_cast<std::uint32_t>((all.size() + channel::max_fds - 1) / channel::max_fds);
  for (std::size_t i = 0; i < module_count(); ++i) {
    const auto info = module_at(i);
    told.modules.push_back({info.build_id, info.path});
  }
  {
    std::lock_guard lock(mutex_);
    told.origin.name = options_.name;
    told.origin.identity = identity_;
    told.origin.daemon = *options_.daemon;
    if (authkey_) told.origin.authkey = *authkey_;
  }
  const auto packed = pack_message(worker_message_kind::process, told);
  if (packed.size() <= longest_inline) {
    send_all(to, packed);
  } else {
    const unique_fd carrier = make_shared_memory("carom-process", packed.size());
    {
      const mapping at(carrier.get(), packed.size(), mapping::access::read_write);
      std::memcpy(at.data(), packed.data(), packed.size());
    }
    send_all(to, pack_message(worker_message_kind::process), {carrier.get()});
  }
  for (std::size_t at = 0; at < all.size(); at += channel::max_fds) {
    descriptors_message batch{descriptors_message::initializer_key, {}};
    std::vector<int> fds;
    for (const auto& one : all.subspan(at, std::min(channel::max_fds, all.size() - at))) {
      batch.tickets.push_back(one.ticket);
      fds.push_back(one.fd);
    }
    send_all(to, pack_message(worker_message_kind::descriptors, batch), fds);
  }
}

/// Waits until a program that was run anew says that it is one of ours.
void child_process::await_answer(channel& from) {
  const auto until = after(options_.start_timeout);
  const auto refuse = [this](const std::string& what) {
    throw start_method_error(label() + " cannot be started by start_method::spawn: its program " +
                             what +
                             ": write carom::init(argc, argv) as the first line of its main");
  };
  message answer;
  for (;;) {
    this_task::checkpoint();
    pollfd waited[] = {{from.fd(), POLLIN, 0}, {sentinel(), POLLIN, 0}};
    int patience = -1;
    if (until) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*until - clock::now()).count();
      if (left <= 0) refuse("has not called carom::init within process_options::start_timeout");
      patience = static_cast<int>(std::min<long>(left, 1'000'000));
    }
    if (::poll(waited, 2, patience) <= 0) continue;
    const std::error_code error = from.receive(answer);
    if (error == std::errc::operation_would_block && waited[1].revents == 0) continue;
    if (error) {
      wait_for_end(after(std::chrono::seconds(1)), false);
      const auto code = exitcode();
      refuse("ended without it" + (code ? " (" + human_status(*code) + ")" : std::string()));
    }
    break;
  }
  const auto kind = kind_of(answer.bytes);
  if (kind == worker_message_kind::ready) return;
  if (kind == worker_message_kind::start_failed)
    std::rethrow_exception(
        detail::decode_exception(std::span<const std::byte>(answer.bytes).subspan(1)));
  refuse("does not speak carom's language");
}

/// Ends what has come of a start that failed; another may follow.
void child_process::take_back_start() noexcept {
  const auto stage = stage_.load(std::memory_order_acquire);
  if (stage == running) {
    try {
      signal(SIGKILL);
    } catch (const std::exception& e) {
      log()->error("{} cannot be killed: {}", label(), e.what());
    }
    wait_for_end(std::nullopt, false);
  }
  unique_fd pidfd;
  {
    std::lock_guard lock(mutex_);
    pidfd = std::move(pidfd_);
    pid_ = 0;
  }
  stage_.store(made, std::memory_order_release);
  futex_wake_all(stage_);
}

// --- what others ask -----------------------------------------------------------------------------

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

std::vector<std::shared_ptr<child_process>> child_process::active() {
  auto& state = process_state::instance();
  std::lock_guard lock(state.children_mutex);
  std::vector<std::shared_ptr<child_process>> all;
  for (const auto& [id, child] : state.children) all.push_back(child);
  return all;
}

void child_process::end_all() noexcept try {
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

// SPDX-License-Identifier: BSL-1.0
// How a child process is started, and what it is told.
#include <poll.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>
#include <carom/this_task.hpp>
#include <cerrno>
#include <cstring>

#include "runtime/child_process.hpp"
#include "runtime/executable.hpp"
#include "runtime/futex.hpp"
#include "runtime/log.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/modules.hpp"
#include "runtime/own_process.hpp"
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

void send_all(channel& to, const std::vector<std::byte>& bytes, const std::vector<int>& fds = {}) {
  if (const std::error_code error = to.send(bytes, fds))
    throw process_error("a process cannot be told what to do: " + error.message());
}

}  // namespace

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
  if (options_.start_method == start_method::forkserver)
    told.inherited_modules = process_state::instance().server_modules;
  for (std::size_t i = told.inherited_modules; i < module_count(); ++i) {
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

}  // namespace carom::runtime

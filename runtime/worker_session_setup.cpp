// SPDX-License-Identifier: BSL-1.0
// How a worker begins and how it leaves.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <carom/detail/exception_codec.hpp>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <carom/log.hpp>
#include <carom/this_worker.hpp>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/clock.hpp"
#include "runtime/crash_report.hpp"
#include "runtime/exit_hook.hpp"
#include "runtime/log.hpp"
#include "runtime/modules.hpp"
#include "runtime/own_process.hpp"
#include "runtime/worker_identity.hpp"
#include "runtime/worker_limits.hpp"
#include "runtime/worker_session.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

/// exit() inside a task: says so and leaves, without the static destructors of a copied process.
CAROM_START_PATH void report_exit(int status) {
  auto& self = identity();
  if (self.pid != ::getpid() || !self.page) return;
  if (running().task_id.load() != 0) {
    self.page->header.exit_status.store(status, std::memory_order_relaxed);
    self.page->header.exit_called.store(1, std::memory_order_release);
  }
  worker_session::leave(status);
}

/// In a process that a task forks: it does not have the page.
CAROM_START_PATH void leave_worker_behind() {
  if (const worker_page* const page = std::exchange(identity().page, nullptr))
    expect_no_return_to(*page);
  report_crashes_nowhere();
  leave_soft_limits_behind();
}

/// What a worker needs beside its page, unless the process that it was forked from has done it.
CAROM_START_PATH void prepare_process() {
  if (!has_soft_signal()) {  // servers begin with all signals at their defaults
    install_soft_signal();
    install_crash_report();
  }
  static bool registered = false;
  if (std::exchange(registered, true)) return;
  ::pthread_atfork(nullptr, nullptr, &leave_worker_behind);
}

/// Found when the program is loaded, not when the first worker leaves: each is its first.
void (*volatile const leave_process)(int) = &::_exit;

}  // namespace

void worker_session::rehearse() {
  prepare_process();
  auto [host, worker] = channel::make_pair();
  const unique_fd memory = make_shared_memory("carom-rehearsal", sizeof(worker_page));
  setup_message setup;
  setup.modules.push_back({"build-id", "path"});
  setup.cpu_affinity.push_back(0);
  const int fd = memory.get();
  message received;
  std::byte first{};
  if (host.send(pack_message(worker_message_kind::setup, setup), std::span(&fd, 1)) ||
      ::recv(worker.fd(), &first, 1, MSG_PEEK) != 1 || worker.receive(received, true) ||
      received.fds.empty() || !is_sealed_memory(received.fds[0].get(), sizeof(worker_page)))
    return;
  setup = unpack_message<setup_message>(received.bytes);
  const mapping page(received.fds[0].get(), sizeof(worker_page), mapping::access::read_write);
  (void)steady_ns();
  (void)running().task_id.load();
  ::dup3(worker.fd(), host.fd(), O_CLOEXEC);
  ::fflush(nullptr);
  ::sched_yield();
}

CAROM_START_PATH worker_session::worker_session(channel to_host) : channel_(std::move(to_host)) {
  receive_setup();
  page_ = reinterpret_cast<worker_page*>(memory_.data());
  tasks_.emplace(*page_);
  results_.emplace(*page_);
  log_forward forward;
  if (setup_.forwards_log)
    forward = [this](int level, std::string_view text) { return forward_log(level, text); };
  restart_log("carom-" + setup_.pool_name + "-" + std::to_string(setup_.index), setup_.log_level,
              std::move(forward));
  std::vector<module_info> modules;
  for (const module_record& record : setup_.modules)
    modules.push_back({record.build_id, record.path});
  set_peer_modules(modules, setup_.inherited_modules);
  own_process::become(std::move(setup_.origin));
  identity() = {setup_.index, ::getpid(), page_};
  if (setup_.weighed) page_->header.born_with_bytes.store(own_memory(), std::memory_order_relaxed);
  prepare_process();
  report_crashes_to(page_->crash);
  // Before whatever this process has inherited: a process whose pool this is has destructors of its
  // own.
  set_exit_hook(&report_exit);
}

CAROM_START_PATH void worker_session::receive_setup() {
  message received;
  if (channel_.receive(received, true) || kind_of(received.bytes) != worker_message_kind::setup ||
      received.fds.empty() || !is_sealed_memory(received.fds[0].get(), sizeof(worker_page)))
    ::_exit(1);
  ++messages_seen_;
  memory_ = mapping(received.fds[0].get(), sizeof(worker_page), mapping::access::read_write);
  try {
    if (received.fds.size() == 1) {
      setup_ = unpack_message<setup_message>(received.bytes);
      return;
    }
    const off_t size = ::lseek(received.fds[1].get(), 0, SEEK_END);
    if (size <= 0 || !is_sealed_memory(received.fds[1].get(), static_cast<std::size_t>(size)))
      ::_exit(1);
    const mapping carried(received.fds[1].get(), static_cast<std::size_t>(size),
                          mapping::access::read);
    setup_ = unpack_message<setup_message>(std::span(carried.data(), carried.size()));
  } catch (const std::exception&) {
    ::_exit(1);
  }
}

CAROM_START_PATH void worker_session::start() {
  own_process::instance().run_after_fork();
  if (setup_.has_initializer || !setup_.rlimits.empty() || setup_.nice != 0 ||
      !setup_.cpu_affinity.empty()) {
    try {
      apply_limits(setup_);
      if (setup_.has_initializer)
        call(setup_.initializer_module, setup_.initializer_offset, setup_.initializer_arguments,
             descriptors_message::initializer_key);
    } catch (...) {
      detail::blob packed;
      const auto kind = worker_message_kind::start_failed;
      packed.append(&kind, 1);
      detail::encode_exception(packed, detail::caught_exception(), ::getpid());
      if (packed.size() > channel::max_bytes) {
        packed.resize_uninitialized(1);
        detail::encode_exception(packed,
                                 std::make_exception_ptr(error(
                                     "the initializer failed with an exception too long to send")),
                                 ::getpid());
      }
      send({packed.bytes().begin(), packed.bytes().end()});
      leave(1);
    }
  }
  send(pack_message(worker_message_kind::ready));
}

void worker_session::call(std::uint64_t module, std::uint64_t offset, const std::string& arguments,
                          std::uint64_t descriptors_key) {
  const detail::descriptor_list descriptors = descriptors_of(descriptors_key);
  const detail::descriptor_scope in_reach(&descriptors);
  const auto entry = reinterpret_cast<detail::task_entry>(detail::resolve_code({module, offset}));
  entry(std::as_bytes(std::span(arguments)), result_);
  result_.clear();
}

CAROM_START_PATH void worker_session::finish_up() {
  if (!setup_.has_exit_call) return;
  try {
    call(setup_.exit_module, setup_.exit_offset, setup_.exit_arguments,
         descriptors_message::exit_key);
  } catch (const std::exception& e) {
    carom::log()->error("on_process_exit threw: {}", e.what());
  } catch (...) {
    carom::log()->error("on_process_exit threw something that is no std::exception");
  }
}

CAROM_START_PATH void worker_session::leave(int status) {
  ::fflush(nullptr);
  leave_process(status);
  ::abort();
}

}  // namespace carom::runtime

namespace carom {

std::shared_ptr<spdlog::logger> this_worker::log() { return carom::log(); }

}  // namespace carom

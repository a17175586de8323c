// SPDX-License-Identifier: BSL-1.0
#include "runtime/child_main.hpp"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cxxabi.h>
#include <carom/detail/exception_codec.hpp>
#include <carom/detail/start_path.hpp>
#include <carom/detail/task_entry.hpp>
#include <carom/errors.hpp>
#include <carom/init.hpp>
#include <cerrno>
#include <exception>
#include <typeinfo>

#include "runtime/crash_report.hpp"
#include "runtime/executable.hpp"
#include "runtime/exit_hook.hpp"
#include "runtime/log.hpp"
#include "runtime/modules.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/process_state.hpp"
#include "runtime/segment.hpp"
#include "runtime/worker_identity.hpp"
#include "serialization/demangle.hpp"
#include "serialization/worker_messages.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

void (*preload_function)() = nullptr;
CAROM_START_DATA pid_t process_pid = 0;

/// Those that came with the arguments, until these are unpacked.
CAROM_START_DATA detail::descriptor_list* argument_descriptors = nullptr;

/// The kind of the message that comes next; nothing at the end of the channel.
CAROM_START_PATH std::optional<worker_message_kind> peek_kind(const channel& from) noexcept {
  std::byte first{};
  ssize_t got;
  do got = ::recv(from.fd(), &first, 1, MSG_PEEK);
  while (got < 0 && errno == EINTR);
  return got == 1 ? kind_of(std::span(&first, 1)) : std::nullopt;
}

/// exit(), in the function or after it: what was registered since this process began has run. Where
/// it is put has to be said: what ends a process does not count as hot.
[[gnu::section(".text.hot.end")]] void on_exit_of_process(int status) {
  // A copy that the function has forked leaves as little behind.
  if (process_pid == ::getpid()) end_in_order();
  flush_and_leave(status);
}

CAROM_START_PATH process_message receive_set_up(channel& from) {
  message received;
  if (from.receive(received, true)) ::_exit(1);
  if (received.fds.empty()) return unpack_message<process_message>(received.bytes);
  const off_t size = ::lseek(received.fds[0].get(), 0, SEEK_END);
  if (size <= 0 || !is_sealed_memory(received.fds[0].get(), static_cast<std::size_t>(size)))
    ::_exit(1);
  const mapping carried(received.fds[0].get(), static_cast<std::size_t>(size),
                        mapping::access::read);
  return unpack_message<process_message>(std::span(carried.data(), carried.size()));
}

CAROM_START_PATH void learn_modules(const process_message& told) {
  std::vector<module_info> modules;
  for (const module_record& record : told.modules)
    modules.push_back({record.build_id, record.path});
  set_peer_modules(modules, told.inherited_modules);
}

CAROM_START_PATH detail::descriptor_list receive_descriptors(channel& from,
                                                             std::uint32_t messages) {
  detail::descriptor_list list;
  message received;
  for (std::uint32_t i = 0; i != messages; ++i) {
    // What was lost on the way is missed when the arguments are unpacked.
    if (const auto error = from.receive(received, true)) {
      if (error != channel_errc::descriptors_lost) ::_exit(1);
      continue;
    }
    const auto told = unpack_message<descriptors_message>(received.bytes);
    for (std::size_t j = 0; j < std::min(told.tickets.size(), received.fds.size()); ++j)
      list.adopt(told.tickets[j], received.fds[j].release());
  }
  return list;
}

void answer(channel& to, std::exception_ptr failure) {
  detail::blob packed;
  const auto kind = failure ? worker_message_kind::start_failed : worker_message_kind::ready;
  packed.append(&kind, 1);
  if (failure) detail::encode_exception(packed, failure, ::getpid());
  if (packed.size() > channel::max_bytes) packed.resize_uninitialized(1);
  (void)to.send(packed.bytes(), {}, true);
}

/// What std::throw_with_nested has thrown by the name that it was thrown with.
std::string name_of_type(const std::type_info& type) {
  std::string name = demangle(type.name());
  constexpr std::string_view nested = "std::_Nested_exception<";
  if (name.starts_with(nested) && name.ends_with('>'))
    name = name.substr(nested.size(), name.size() - nested.size() - 1);
  return name;
}

int report(const std::exception_ptr& thrown) {
  const std::string who =
      own_process::instance().name() + " (process " + std::to_string(::getpid()) + ")";
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& e) {
    log()->error("{} was ended by {}: {}", who, name_of_type(typeid(e)), e.what());
  } catch (...) {
    log()->error("{} was ended by an exception that is no std::exception", who);
  }
  return EXIT_FAILURE;
}

/// Runs the function; the exit code. UBSan takes the reference to a forced unwinding, which has no
/// object, for one to null.
CAROM_START_PATH [[gnu::no_sanitize("null"), gnu::noinline]] int run_function(
    channel to_host, const process_message& told) {
  const bool answers = told.answers;
  try {
    detail::descriptor_list descriptors = receive_descriptors(to_host, told.descriptor_messages);
    argument_descriptors = &descriptors;
    const detail::descriptor_scope in_reach(&descriptors);
    detail::task_entry entry = nullptr;
    try {
      entry = reinterpret_cast<detail::task_entry>(
          detail::resolve_code({told.entry.module, told.entry.offset}));
    } catch (...) {
      const auto why = detail::caught_exception();
      if (answers) answer(to_host, why);
      std::rethrow_exception(why);
    }
    if (answers) answer(to_host, nullptr);
    to_host = channel{};
    own_process::instance().run_after_fork();
    detail::blob nothing;
    entry(std::as_bytes(std::span(told.arguments)), nothing);
    return EXIT_SUCCESS;
  } catch (const abi::__forced_unwind&) {
    // pthread_exit: what lies below this frame is the fork server's, and not to be unwound. Nor may
    // this handler be left.
    ::exit(EXIT_SUCCESS);
  } catch (...) {
    return report(detail::caught_exception());
  }
}

CAROM_START_PATH [[noreturn]] void run_process(channel to_host) {
  process_message told;
  try {
    told = receive_set_up(to_host);
  } catch (const std::exception&) {
    ::_exit(1);
  }
  // Whatever process this is a copy of, it is no worker.
  identity() = {};
  running().task_id = 0;
  end_soft_limits();
  remove_soft_signal();
  remove_crash_report();
  process_pid = ::getpid();
  restart_log("carom-" + told.origin.name, told.log_level);
  learn_modules(told);
  own_process::become(std::move(told.origin));
  set_exit_hook(&on_exit_of_process);
  ::exit(run_function(std::move(to_host), told));
}

}  // namespace

CAROM_START_PATH void run_child(channel to_host) {
  const auto kind = peek_kind(to_host);
  if (kind == worker_message_kind::process) run_process(std::move(to_host));
  if (kind == worker_message_kind::exec) {
    message launch;
    if (to_host.receive(launch, true)) ::_exit(1);
    run_launch(std::move(launch));
  }
  if (kind && worker_hooks().run) worker_hooks().run(std::move(to_host));
}

void (*forkserver_preload() noexcept)() { return preload_function; }

}  // namespace carom::runtime

namespace carom::detail {

CAROM_START_PATH void arguments_are_unpacked() noexcept {
  // A duplicate kept for as long as the process lives would hide the end of a pipe.
  if (auto* list = std::exchange(runtime::argument_descriptors, nullptr)) list->clear();
}

}  // namespace carom::detail

namespace carom {

using namespace runtime;

void init(int, char**) {
  if (channel to_host = take_launched_channel()) {
    open_own_executable();
    if (peek_kind(to_host) == worker_message_kind::setup && worker_hooks().boot)
      worker_hooks().boot();
    run_child(std::move(to_host));
    end_children();
    ::_exit(0);
  }
  open_own_executable();
  auto& state = process_state::instance();
  // Without /proc there will be no pool and no process; they say so, and who has none need not
  // know.
  if (count_threads() != 0) {
    std::lock_guard lock(state.mutex);
    state.start_fork_server();
  }
  install_exit_guard();
}

void set_forkserver_preload(void (*f)()) {
  auto& state = process_state::instance();
  std::lock_guard lock(state.mutex);
  if (state.server)
    throw start_method_error(
        "set_forkserver_preload: the fork server has started already: call it before carom::init "
        "and before the first pool or process");
  preload_function = f;
}

}  // namespace carom

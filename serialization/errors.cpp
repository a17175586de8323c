// SPDX-License-Identifier: BSL-1.0
#include <carom/errors.hpp>

#include <signal.h>
#include <string.h>

#include <array>
#include <cstdio>
#include <utility>

namespace carom {

namespace {

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? std::string{"SIG"} + name : "signal " + std::to_string(signal);
}

std::string number(double value, const char* unit) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.4g %s", value, unit);
  return text.data();
}

std::string duration(std::chrono::nanoseconds time) {
  const auto ns = static_cast<double>(time.count());
  if (ns < 1e3) return number(ns, "ns");
  if (ns < 1e6) return number(ns / 1e3, "us");
  if (ns < 1e9) return number(ns / 1e6, "ms");
  return number(ns / 1e9, "s");
}

std::string bytes(std::uint64_t count) {
  const auto size = static_cast<double>(count);
  if (count < 1024) return std::to_string(count) + " bytes";
  if (count < 1024 * 1024) return number(size / 1024, "KiB");
  if (count < 1024 * 1024 * 1024) return number(size / 1024 / 1024, "MiB");
  return number(size / 1024 / 1024 / 1024, "GiB");
}

std::string task(std::uint64_t id, const std::string& name) {
  std::string text = "task " + std::to_string(id);
  if (!name.empty()) text += " '" + name + "'";
  return text;
}

/// " in worker 1234", or nothing when the pid is not known.
std::string in_worker(int pid) { return pid == 0 ? "" : " in worker " + std::to_string(pid); }

std::string message(const buffer_too_short_info& info) {
  return "a message of " + bytes(info.message.size()) + " does not fit into a buffer of " +
         bytes(info.capacity) + "; it is in message(): take it from there, or offer more room";
}

std::string message(const time_limit_info& info, const char* limit) {
  std::string text = task(info.task_id, info.task_name) + in_worker(info.pid) + " passed its " +
                     limit + " of " + duration(info.limit);
  if (info.run_time.count() != 0) text += " after " + duration(info.run_time);
  return text;
}

std::string hard_limit_message(const time_limit_info& info) {
  return message(info, "time limit") +
         " and its worker was killed; raise time_limit, or let the task do less";
}

std::string soft_limit_message(const time_limit_info& info) {
  return message(info, "soft time limit") + "; save what is worth saving and return";
}

std::string message(const worker_lost_info& info) {
  std::string text = "worker " + std::to_string(info.pid);
  text += info.signal != 0 ? " died of " + signal_name(info.signal)
                           : " exited with status " + std::to_string(info.exit_code);
  if ((info.signal == SIGSEGV || info.signal == SIGBUS) && !info.backtrace.empty()) {
    std::array<char, 32> address{};
    std::snprintf(address.data(), address.size(), " at address 0x%llx",
                  static_cast<unsigned long long>(info.fault_address));
    text += address.data();
  }
  text +=
      " while running " + task(info.task_id, info.task_name) + " after " + duration(info.run_time);
  if (info.memory != 0) text += " (resident " + bytes(info.memory) + ")";
  if (info.attempts > 1) text += ", at attempt " + std::to_string(info.attempts);
  if (!info.cause.empty())
    text += ": " + info.cause;
  else if (info.signal == 9)
    text += ": killed from outside, by the kernel if memory ran out; see dmesg";
  if (!info.backtrace.empty()) text += "\n" + info.backtrace;
  return text;
}

std::string message(const terminated_info& info) {
  std::string text =
      info.task_id == 0 && info.task_name.empty() ? "the task" : task(info.task_id, info.task_name);
  if (info.cancelled) return text + " was cancelled before it began";
  text += " was terminated" + in_worker(info.pid);
  return text + (info.signal != 0 ? " with " + signal_name(info.signal) : " with its pool");
}

std::string message(const restart_freq_info& info) {
  std::string text = "no worker can be started";
  if (info.restarts != 0)
    text = std::to_string(info.restarts) + (info.restarts == 1 ? " worker" : " workers") +
           " died within " + duration(info.period) + ", more than the pool's `restarts` allow";
  if (!info.cause.empty()) text += (info.restarts != 0 ? "; the last one: " : ": ") + info.cause;
  return text + "; the pool has stopped: mend the cause and make a new pool";
}

std::string message(const memory_limit_info& info) {
  if (info.memory <= info.limit)  // then it is the limit of all together that was passed
    return task(info.task_id, info.task_name) + in_worker(info.pid) + " used " +
           bytes(info.memory) + " of memory, the most in a pool that used more than its limit of " +
           bytes(info.limit) +
           ", and its worker was killed; raise pool_memory_limit, or run fewer such tasks at once";
  return task(info.task_id, info.task_name) + in_worker(info.pid) + " used " + bytes(info.memory) +
         " of memory, more than its limit of " + bytes(info.limit) +
         ", and its worker was killed; raise memory_limit, or pass the task less";
}

std::string message(const remote_error_info& info) {
  if (!info.remote_what.empty()) return info.remote_what;
  return "an exception of type " + info.type_name + " left the task" + in_worker(info.pid);
}

std::string message(const unknown_task_info& info) {
  std::string text = "no task '" + info.task_name + "' here";
  if (!info.reason.empty()) text += " (" + info.reason + ")";
  return text + "; call register_task in every process before a pool is made, with the same types";
}

}  // namespace

error::~error() = default;
process_error::~process_error() = default;
timeout_error::~timeout_error() = default;
authentication_error::~authentication_error() = default;
buffer_too_short::~buffer_too_short() = default;
time_limit_exceeded::~time_limit_exceeded() = default;
soft_time_limit_exceeded::~soft_time_limit_exceeded() = default;
worker_lost::~worker_lost() = default;
terminated::~terminated() = default;
restart_freq_exceeded::~restart_freq_exceeded() = default;
memory_limit_exceeded::~memory_limit_exceeded() = default;
encoding_error::~encoding_error() = default;
remote_error::~remote_error() = default;
queue_empty::~queue_empty() = default;
queue_full::~queue_full() = default;
pool_closed::~pool_closed() = default;
unknown_task::~unknown_task() = default;
start_method_error::~start_method_error() = default;
broken_barrier::~broken_barrier() = default;
coro_stop::~coro_stop() = default;

timeout_error::timeout_error()
    : timeout_error("the time given for waiting is over; wait again, or give up") {}
authentication_error::authentication_error()
    : authentication_error("the other side has another key; give both the same authkey") {}
queue_empty::queue_empty() : queue_empty("the queue is empty; wait with get(), or try later") {}
queue_full::queue_full()
    : queue_full(
          "no room: max_pending or the queue's size is reached; wait for results, or block") {}
pool_closed::pool_closed()
    : pool_closed(
          "the pool is closed and takes no more tasks; make a new one, or submit before close") {}
broken_barrier::broken_barrier()
    : broken_barrier("the barrier is broken: a party died, timed out or aborted; reset() it") {}
coro_stop::coro_stop() : coro_stop("the coroutine has ended") {}

buffer_too_short::buffer_too_short(buffer_too_short_info info)
    : process_error(carom::message(info)), info_{std::move(info)} {}
time_limit_exceeded::time_limit_exceeded(time_limit_info info)
    : error(hard_limit_message(info)), info_{std::move(info)} {}
soft_time_limit_exceeded::soft_time_limit_exceeded(time_limit_info info)
    : error(soft_limit_message(info)), info_{std::move(info)} {}
worker_lost::worker_lost(worker_lost_info info) : error(message(info)), info_{std::move(info)} {}
terminated::terminated(terminated_info info) : error(message(info)), info_{std::move(info)} {}
restart_freq_exceeded::restart_freq_exceeded(restart_freq_info info)
    : error(message(info)), info_{std::move(info)} {}
memory_limit_exceeded::memory_limit_exceeded(memory_limit_info info)
    : error(message(info)), info_{std::move(info)} {}
remote_error::remote_error(remote_error_info info) : error(message(info)), info_{std::move(info)} {}
unknown_task::unknown_task(unknown_task_info info) : error(message(info)), info_{std::move(info)} {}

}  // namespace carom

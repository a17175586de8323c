// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace carom {

/// Base of everything that carom throws. Each message says what happened, to which task or process,
/// and what to do. Every class below also travels: a task that lets one out hands it to the caller
/// as the same class with the same fields.
class CAROM_API error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  error(const error&) = default;
  error& operator=(const error&) = default;
  ~error() override;
};

/// An operation on a process, connection or queue failed (billiard: `ProcessError`).
class CAROM_API process_error : public error {
 public:
  using error::error;
  process_error(const process_error&) = default;
  process_error& operator=(const process_error&) = default;
  ~process_error() override;
};

/// A wait with a time-out ended before what it waited for (billiard: `TimeoutError`).
class CAROM_API timeout_error : public process_error {
 public:
  timeout_error();
  using process_error::process_error;
  timeout_error(const timeout_error&) = default;
  timeout_error& operator=(const timeout_error&) = default;
  ~timeout_error() override;
};

/// The other side of a connection did not prove that it has the same key.
class CAROM_API authentication_error : public process_error {
 public:
  authentication_error();
  using process_error::process_error;
  authentication_error(const authentication_error&) = default;
  authentication_error& operator=(const authentication_error&) = default;
  ~authentication_error() override;
};

struct buffer_too_short_info {
  std::vector<std::byte> message{};  ///< the whole message that did not fit
  std::size_t capacity = 0;          ///< bytes the caller had room for

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& message& capacity;
  }
};

/// `recv_bytes_into` got a message longer than the buffer; the message is not lost, it is in here.
class CAROM_API buffer_too_short : public process_error {
 public:
  explicit buffer_too_short(buffer_too_short_info info);
  buffer_too_short(const buffer_too_short&) = default;
  buffer_too_short& operator=(const buffer_too_short&) = default;
  ~buffer_too_short() override;

  std::span<const std::byte> message() const noexcept { return info_.message; }
  const buffer_too_short_info& info() const noexcept { return info_; }

 private:
  buffer_too_short_info info_;
};

struct time_limit_info {
  std::string task_name{};
  std::uint64_t task_id = 0;
  std::chrono::nanoseconds limit{};     ///< the limit that was passed
  std::chrono::nanoseconds run_time{};  ///< how long the task had run
  int pid = 0;                          ///< the worker, 0 when unknown

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& task_name& task_id& limit& run_time& pid;
  }
};

/// The task ran longer than its time limit; its worker was killed and replaced.
class CAROM_API time_limit_exceeded : public error {
 public:
  explicit time_limit_exceeded(time_limit_info info);
  time_limit_exceeded(const time_limit_exceeded&) = default;
  time_limit_exceeded& operator=(const time_limit_exceeded&) = default;
  ~time_limit_exceeded() override;

  const std::string& task_name() const noexcept { return info_.task_name; }
  std::uint64_t task_id() const noexcept { return info_.task_id; }
  std::chrono::nanoseconds limit() const noexcept { return info_.limit; }
  std::chrono::nanoseconds run_time() const noexcept { return info_.run_time; }
  const time_limit_info& info() const noexcept { return info_; }

 private:
  time_limit_info info_;
};

/// Raised inside a task, at a checkpoint or in one of carom's waits, once its soft limit passed.
class CAROM_API soft_time_limit_exceeded : public error {
 public:
  explicit soft_time_limit_exceeded(time_limit_info info);
  soft_time_limit_exceeded(const soft_time_limit_exceeded&) = default;
  soft_time_limit_exceeded& operator=(const soft_time_limit_exceeded&) = default;
  ~soft_time_limit_exceeded() override;

  const std::string& task_name() const noexcept { return info_.task_name; }
  std::uint64_t task_id() const noexcept { return info_.task_id; }
  std::chrono::nanoseconds limit() const noexcept { return info_.limit; }
  std::chrono::nanoseconds run_time() const noexcept { return info_.run_time; }
  const time_limit_info& info() const noexcept { return info_; }

 private:
  time_limit_info info_;
};

struct worker_lost_info {
  int pid = 0;
  int signal = 0;     ///< the signal the worker died of, 0 when it exited
  int exit_code = 0;  ///< its exit status when `signal` is 0
  std::string task_name{};
  std::uint64_t task_id = 0;
  std::chrono::nanoseconds run_time{};  ///< how long the task had run
  std::uint64_t memory = 0;             ///< bytes of resident memory when last seen, 0 unknown
  unsigned attempts = 1;                ///< how often the task was started
  std::string cause{};                  ///< as "the task called exit(3)", or empty
  std::string backtrace{};              ///< where it crashed, or empty
  std::uint64_t fault_address = 0;      ///< what it could not access, for SIGSEGV and SIGBUS

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& pid& signal& exit_code& task_name& task_id& run_time& memory& attempts& cause&
        backtrace& fault_address;
  }
};

/// The worker process died while it ran the task (billiard: `WorkerLostError`).
class CAROM_API worker_lost : public error {
 public:
  explicit worker_lost(worker_lost_info info);
  worker_lost(const worker_lost&) = default;
  worker_lost& operator=(const worker_lost&) = default;
  ~worker_lost() override;

  int pid() const noexcept { return info_.pid; }
  int signal() const noexcept { return info_.signal; }
  int exit_code() const noexcept { return info_.exit_code; }
  const std::string& task_name() const noexcept { return info_.task_name; }
  std::uint64_t task_id() const noexcept { return info_.task_id; }
  std::chrono::nanoseconds run_time() const noexcept { return info_.run_time; }
  std::uint64_t memory() const noexcept { return info_.memory; }
  unsigned attempts() const noexcept { return info_.attempts; }
  const std::string& cause() const noexcept { return info_.cause; }
  const std::string& backtrace() const noexcept { return info_.backtrace; }
  std::uint64_t fault_address() const noexcept { return info_.fault_address; }
  const worker_lost_info& info() const noexcept { return info_; }

 private:
  worker_lost_info info_;
};

struct terminated_info {
  int signal = 0;  ///< the signal that was asked for, 0 when the pool itself was terminated
  int pid = 0;
  std::string task_name{};
  std::uint64_t task_id = 0;
  bool cancelled = false;  ///< it had not begun

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& signal& pid& task_name& task_id& cancelled;
  }
};

/// The task was ended on request: `async_result::terminate`, `pool::terminate_job`, `terminate`.
class CAROM_API terminated : public error {
 public:
  explicit terminated(terminated_info info);
  terminated(const terminated&) = default;
  terminated& operator=(const terminated&) = default;
  ~terminated() override;

  int signal() const noexcept { return info_.signal; }
  int pid() const noexcept { return info_.pid; }
  const std::string& task_name() const noexcept { return info_.task_name; }
  std::uint64_t task_id() const noexcept { return info_.task_id; }
  const terminated_info& info() const noexcept { return info_; }

 private:
  terminated_info info_;
};

struct restart_freq_info {
  unsigned restarts = 0;              ///< how many workers died
  std::chrono::nanoseconds period{};  ///< within this time
  std::string cause{};                ///< what the last of them died of, or empty

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& restarts& period& cause;
  }
};

/// Workers died faster than the pool's restart intensity allows, or none has ever become ready; the
/// pool has stopped.
class CAROM_API restart_freq_exceeded : public error {
 public:
  explicit restart_freq_exceeded(restart_freq_info info);
  restart_freq_exceeded(const restart_freq_exceeded&) = default;
  restart_freq_exceeded& operator=(const restart_freq_exceeded&) = default;
  ~restart_freq_exceeded() override;

  unsigned restarts() const noexcept { return info_.restarts; }
  std::chrono::nanoseconds period() const noexcept { return info_.period; }
  const std::string& cause() const noexcept { return info_.cause; }
  const restart_freq_info& info() const noexcept { return info_; }

 private:
  restart_freq_info info_;
};

struct memory_limit_info {
  std::string task_name{};
  std::uint64_t task_id = 0;
  std::uint64_t limit = 0;   ///< bytes allowed
  std::uint64_t memory = 0;  ///< bytes of resident memory found
  int pid = 0;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& task_name& task_id& limit& memory& pid;
  }
};

/// The task's process used more memory than `.memory_limit`; it was killed and replaced.
class CAROM_API memory_limit_exceeded : public error {
 public:
  explicit memory_limit_exceeded(memory_limit_info info);
  memory_limit_exceeded(const memory_limit_exceeded&) = default;
  memory_limit_exceeded& operator=(const memory_limit_exceeded&) = default;
  ~memory_limit_exceeded() override;

  const std::string& task_name() const noexcept { return info_.task_name; }
  std::uint64_t task_id() const noexcept { return info_.task_id; }
  std::uint64_t limit() const noexcept { return info_.limit; }
  std::uint64_t memory() const noexcept { return info_.memory; }
  const memory_limit_info& info() const noexcept { return info_; }

 private:
  memory_limit_info info_;
};

/// A value could not be packed, or bytes from another process could not be unpacked. It concerns
/// that one task or message only. What made a user's `serialize` fail is its nested exception.
class CAROM_API encoding_error : public error {
 public:
  using error::error;
  encoding_error(const encoding_error&) = default;
  encoding_error& operator=(const encoding_error&) = default;
  ~encoding_error() override;
};

struct remote_error_info {
  std::string type_name{};    ///< demangled
  std::string remote_what{};  ///< empty for what is no `std::exception`
  int pid = 0;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& type_name& remote_what& pid;
  }
};

/// Stands for an exception of another process whose type is not registered here: `what()` is the
/// text of the original. To get the type itself, write `CAROM_EXCEPTION(type)`.
class CAROM_API remote_error : public error {
 public:
  explicit remote_error(remote_error_info info);
  remote_error(const remote_error&) = default;
  remote_error& operator=(const remote_error&) = default;
  ~remote_error() override;

  const std::string& type_name() const noexcept { return info_.type_name; }
  int pid() const noexcept { return info_.pid; }
  const remote_error_info& info() const noexcept { return info_; }

 private:
  remote_error_info info_;
};

/// `get_nowait`, or `get` with a time-out, found nothing.
class CAROM_API queue_empty : public error {
 public:
  queue_empty();
  using error::error;
  queue_empty(const queue_empty&) = default;
  queue_empty& operator=(const queue_empty&) = default;
  ~queue_empty() override;
};

/// A bounded queue, or a pool at `.max_pending` with `overflow::reject`, has no room.
class CAROM_API queue_full : public error {
 public:
  queue_full();
  using error::error;
  queue_full(const queue_full&) = default;
  queue_full& operator=(const queue_full&) = default;
  ~queue_full() override;
};

/// The pool was closed or terminated, or has stopped, before the task was accepted.
class CAROM_API pool_closed : public error {
 public:
  pool_closed();
  using error::error;
  pool_closed(const pool_closed&) = default;
  pool_closed& operator=(const pool_closed&) = default;
  ~pool_closed() override;
};

struct unknown_task_info {
  std::string task_name{};  ///< the registered name, or what is known of the function
  std::string reason{};     ///< why it cannot be resolved

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& task_name& reason;
  }
};

/// The process that should run the task has no such function.
class CAROM_API unknown_task : public error {
 public:
  explicit unknown_task(unknown_task_info info);
  unknown_task(const unknown_task&) = default;
  unknown_task& operator=(const unknown_task&) = default;
  ~unknown_task() override;

  const std::string& task_name() const noexcept { return info_.task_name; }
  const unknown_task_info& info() const noexcept { return info_; }

 private:
  unknown_task_info info_;
};

/// Processes cannot be started this way here; the message says what to write instead.
class CAROM_API start_method_error : public error {
 public:
  using error::error;
  start_method_error(const start_method_error&) = default;
  start_method_error& operator=(const start_method_error&) = default;
  ~start_method_error() override;
};

/// A barrier was broken: a party died, timed out, or aborted it.
class CAROM_API broken_barrier : public error {
 public:
  broken_barrier();
  using error::error;
  broken_barrier(const broken_barrier&) = default;
  broken_barrier& operator=(const broken_barrier&) = default;
  ~broken_barrier() override;
};

/// Exit of a coroutine, distinct from the end of a range (billiard: `CoroStop`).
class CAROM_API coro_stop : public error {
 public:
  coro_stop();
  using error::error;
  coro_stop(const coro_stop&) = default;
  coro_stop& operator=(const coro_stop&) = default;
  ~coro_stop() override;
};

}  // namespace carom

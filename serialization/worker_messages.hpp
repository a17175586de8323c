// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/codec.hpp>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

/// The messages between the host and a worker, beside the shared page. Each is one datagram: a kind
/// and packed fields.
namespace carom::serialization {

enum class worker_message_kind : std::uint8_t {
  // host to worker
  setup = 1,  // descriptors: the page, then perhaps the packed set-up where it is too long
  tasks,      // a bell: look at the task ring, or there is room in the result ring
  segment,    // descriptor: the segment
  forget,     // a segment that will not be used again
  module,     // a library that was loaded later
  leave,      // finish and exit
  exec,       // descriptors: a binary, and the channel's end for the process that it becomes
  process,    // descriptor: perhaps the packed message where it is too long; not a worker
  // either way
  descriptors,  // descriptors that go with a task's arguments or result, ahead of its frame
  // worker to host
  results = 16,  // a bell: look at the result ring, or a claim
  ready,
  start_failed,
  need_segment,
  dropped,  // a result segment that the worker will not use again
  logged    // a record for the host's logger
};

struct module_record {
  std::string build_id;
  std::string path;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& build_id& path;
  }
};

struct rlimit_record {
  std::int32_t resource = 0;
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& resource& soft& hard;
  }
};

/// Where a function lies, by the sender's list of modules.
struct code_record {
  std::uint64_t module = 0;
  std::uint64_t offset = 0;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& module& offset;
  }
};

/// What a worker or process is, and what it inherits from the process that started it.
struct origin_record {
  std::string name;
  std::string identity;  // "1:2": the second child of the first
  bool daemon = false;
  std::int32_t parent = 0;  // who started it, not the fork server
  std::string parent_name;
  std::string authkey;
  std::int32_t start_method = 0;  // of what it starts itself
  std::vector<code_record> after_fork;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& name& identity& daemon& parent& parent_name& authkey& start_method& after_fork;
  }
};

/// The function that is a process's life, and its arguments.
struct process_message {
  origin_record origin;
  std::int32_t log_level = 0;
  std::uint64_t inherited_modules = 0;  // those before `modules`, which the process was born with
  std::vector<module_record> modules;
  code_record entry;
  std::string arguments;
  std::uint32_t descriptor_messages = 0;  // that follow this one
  bool answers = false;                   // says that it has begun, or why not

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& origin& log_level& inherited_modules& modules& entry& arguments& descriptor_messages&
        answers;
  }
};

struct exec_message {
  std::string name;  // argv[0]

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& name;
  }
};

/// What a worker must know before its first task.
struct setup_message {
  origin_record origin;
  std::uint64_t worker_id = 0;
  std::int32_t index = 0;
  std::string pool_name;
  std::int32_t log_level = 0;
  std::int64_t linger_ns = 0;           // how long to look for the next task before sleeping
  std::uint64_t inherited_modules = 0;  // those before `modules`, which the worker was born with
  std::vector<module_record> modules;
  bool has_initializer = false;
  std::uint64_t initializer_module = 0;
  std::uint64_t initializer_offset = 0;
  std::string initializer_arguments;
  bool has_exit_call = false;
  std::uint64_t exit_module = 0;
  std::uint64_t exit_offset = 0;
  std::string exit_arguments;
  bool weighed = false;          // its memory is looked at
  std::uint64_t max_memory = 0;  // bytes after a task; 0: no limit
  std::vector<rlimit_record> rlimits;
  std::int32_t nice = 0;
  std::vector<std::int32_t> cpu_affinity;
  bool forwards_log = false;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& origin& worker_id& index& pool_name& log_level& linger_ns& inherited_modules& modules;
    ar& has_initializer& initializer_module& initializer_offset& initializer_arguments;
    ar& has_exit_call& exit_module& exit_offset& exit_arguments& weighed& max_memory& rlimits& nice&
        cpu_affinity& forwards_log;
  }
};

struct segment_message {
  std::uint64_t ticket = 0;
  std::uint64_t size = 0;  // of the whole mapping
  bool writable = false;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& ticket& size& writable;
  }
};

struct ticket_message {
  std::uint64_t ticket = 0;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& ticket;
  }
};

/// Which descriptors come with this message, in their order, and for what: the position of a
/// task in the worker's ring, or one of the keys below.
struct descriptors_message {
  static constexpr std::uint64_t initializer_key = UINT64_MAX;
  static constexpr std::uint64_t exit_key = UINT64_MAX - 1;

  std::uint64_t key = 0;
  std::vector<std::uint64_t> tickets;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& key& tickets;
  }
};

struct need_segment_message {
  std::uint64_t bytes = 0;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& bytes;
  }
};

/// What a worker has logged; a longer text is cut.
struct log_message {
  static constexpr std::size_t most_text = 16 * 1024;

  std::int32_t level = 0;  // spdlog's
  std::string text;

  template <class Archive>
  void serialize(Archive& ar, unsigned) {
    ar& level& text;
  }
};

/// A message of `kind` alone.
std::vector<std::byte> pack_message(worker_message_kind kind);

template <class Fields>
std::vector<std::byte> pack_message(worker_message_kind kind, const Fields& fields) {
  detail::blob packed;
  detail::encode(packed, kind, fields);
  return {packed.bytes().begin(), packed.bytes().end()};
}

/// The kind of a message; nothing if there is no such kind.
std::optional<worker_message_kind> kind_of(std::span<const std::byte> message);

/// The fields behind the kind. Throws encoding_error.
template <class Fields>
CAROM_START_PATH Fields unpack_message(std::span<const std::byte> message) {
  if (message.empty()) throw encoding_error("a worker's message is empty");
  return std::get<0>(detail::decode<Fields>(message.subspan(1)));
}

}  // namespace carom::serialization

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/chunk.hpp>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "runtime/channel.hpp"
#include "runtime/result_ring.hpp"
#include "runtime/task_ring.hpp"
#include "runtime/worker_segments.hpp"
#include "serialization/worker_messages.hpp"

namespace carom::runtime {

/// A worker process's side of its host: takes tasks from the page, runs them, publishes what they
/// end with. One per process, on its main thread; a broken host ends the process.
class worker_session final : worker_segments::requests {
 public:
  /// Does once, in the process from which workers are forked, what each of them would do for the
  /// first time: what is resolved, loaded and allocated by that is then inherited.
  static void rehearse();

  /// Receives the set-up message. The process leaves if there is none.
  explicit worker_session(channel to_host);

  /// Runs the initializer and says that this worker is ready; if the initializer throws, says so
  /// and leaves.
  void start();

  /// Runs what is in the task ring until it is empty.
  void run_tasks();

  /// Blocks until there is something to do. False when the host wants this worker to leave.
  bool wait();

  /// Runs what is to be run when this worker leaves by itself.
  void finish_up();

  /// Flushes what tasks have printed and ends the process.
  [[noreturn]] static void leave(int status);

  const serialization::setup_message& setup() const noexcept { return setup_; }

 private:
  class running_chunk;

  void receive_setup();
  void run(const task_slot& slot);
  /// The frame that ends the chunk, with what it has not published yet.
  result_frame run_chunk(const task_slot& slot, std::span<const std::byte> payload,
                         detail::code_pointer entry);
  std::span<const std::byte> payload_of(const task_slot& slot);
  void finish();
  void weigh();
  void call(std::uint64_t module, std::uint64_t offset, const std::string& arguments,
            std::uint64_t descriptors_key);
  detail::descriptor_list descriptors_of(std::uint64_t key);
  void send_descriptors(std::uint64_t position, const detail::descriptor_list& list);
  [[noreturn]] static void await_the_end() noexcept;
  /// Where a result's descriptors cannot be sent, the task has failed with encoding_error; for
  /// items that is thrown.
  void publish(result_frame frame, detail::blob& payload);
  void wait_for_room();
  void note_time(std::int64_t now);
  void ring_host();
  void send(std::vector<std::byte> bytes);
  bool forward_log(int level, std::string_view text) noexcept;
  /// Receives one message, blocking; leaves the process at the end of the channel.
  serialization::worker_message_kind receive_one();
  void read_waiting_messages();
  /// Whether the host has sent messages that have not been received yet.
  bool messages_wait() const noexcept;
  void set_waits(worker_wait what);

  std::uint64_t need_segment(std::uint64_t bytes) override;
  void dropped(std::uint64_t ticket) override;

  channel channel_;
  serialization::setup_message setup_;
  mapping memory_;
  worker_page* page_ = nullptr;
  std::optional<task_consumer> tasks_;
  std::optional<result_producer> results_;
  worker_segments segments_{*this};
  detail::blob result_{&segments_};
  /// Descriptors that came ahead of tasks, by their positions: a task that was taken back may come
  /// here again.
  std::unordered_map<std::uint64_t, detail::descriptor_list> descriptors_;
  std::uint32_t messages_seen_ = 0;
  std::uint64_t last_segment_ = 0;
  bool went_ahead_ = false;  // descriptors of a result that was then refused
  bool leaving_ = false;
  bool wants_out_ = false;
  std::int64_t last_start_ = 0;
  std::int64_t average_ns_ = 0;
};

}  // namespace carom::runtime

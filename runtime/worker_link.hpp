// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/crash_report.hpp"
#include "runtime/result_ring.hpp"
#include "runtime/segment.hpp"
#include "runtime/task_ring.hpp"
#include "serialization/worker_messages.hpp"

namespace carom::runtime {

/// The host's end of one worker generation: page, channel, segments. Belongs to the loop's thread.
class worker_link {
 public:
  /// What the worker said over the channel, in `read`.
  struct listener {
    virtual void worker_ready() = 0;
    virtual void worker_start_failed(std::span<const std::byte> exception) = 0;
    virtual void worker_rang() = 0;
    /// It has a record for the host's logger; `level` is one of spdlog's.
    virtual void worker_logged(int level, const std::string& text) = 0;
    /// It broke the rules: it is to be ended.
    virtual void worker_corrupt(const char* what) = 0;

   protected:
    ~listener() = default;
  };

  /// Throws std::system_error.
  worker_link(std::uint64_t worker_id, const serialization::setup_message& setup);

  /// The worker's end of the channel, once; the set-up message waits in it.
  unique_fd take_worker_end() noexcept { return worker_end_.release(); }
  int fd() const noexcept { return channel_.fd(); }
  bool wants_write() const noexcept { return !unsent_.empty(); }
  /// Whether what waits does so for a shortage, of whose end the channel's readiness tells nothing.
  bool starved() const noexcept { return starved_; }

  task_producer& tasks() noexcept { return tasks_; }
  result_consumer& results() noexcept { return results_; }

  /// Writes a task behind the others, at `tasks().tail()` as it is before. Taken by reference and
  /// answered in a register: words on the stack would be waited for behind the ring's cache line.
  /// False if the worker's ring is full or no segment is to be had for a large payload.
  /// `payload` must stay until the task is settled if it lies in a segment.
  bool write(task_frame&& frame, const detail::blob& payload);
  /// Shows the worker what was written, and wakes it if need be.
  void publish();
  /// Gives back the room of `count` results.
  void release_results(std::uint64_t count);
  /// Sends duplicates of descriptors ahead of what `key` names. False if some could not be sent.
  bool send_descriptors(std::uint64_t key, const detail::descriptor_list& list);
  /// The descriptors that the worker has sent for the task at `position`, which are on their way at
  /// the latest when a frame says so. Messages of other kinds wait for the next `read`.
  detail::descriptor_list take_descriptors(std::uint64_t position);
  /// Whether messages wait here that the channel's readiness will not tell of.
  bool has_put_off() const noexcept { return !put_off_.empty(); }
  void leave();
  void forget_segment(std::uint64_t ticket);

  /// Receives what is there, or a good share of what does not end. False when the worker's end is
  /// closed.
  bool read(listener& to);
  /// Whether the last `read` had its share before it saw the end of what is there.
  bool has_more() const noexcept { return has_more_; }
  /// Sends what had no room.
  void flush();

  /// The result segment named by a frame, lent to whoever reads the result; null if the worker may
  /// not speak of it.
  std::shared_ptr<segment> lend(std::uint64_t ticket, std::uint64_t length);
  /// What releasing a lent segment is booked on.
  const std::shared_ptr<warm_results>& warm() const noexcept { return warm_; }

  const page_header& header() const noexcept { return page_->header; }
  /// What the worker had not published of the chunk at `position`, as a frame of items; a count of
  /// 0 if there is nothing, or nothing that can be.
  result_frame open_items(std::uint64_t position) const;
  /// Where the worker crashed, as text; empty if it did not.
  std::uint64_t fault_address() const noexcept { return page_->crash.fault_address; }
  std::string crash_text() const { return describe_crash(page_->crash); }

 private:
  bool send(std::vector<std::byte> bytes, std::vector<int> fds = {});
  std::error_code transmit(std::span<const std::byte> bytes, std::span<const int> fds);
  void tell_new_modules();
  bool tell_segment(const segment& told, bool writable);
  void grant_segment(std::uint64_t bytes, listener& to);
  void receive(message& received, listener& to);
  bool store_descriptors(message& received);

  struct unsent_message {
    std::vector<std::byte> bytes;
    std::vector<unique_fd> fds;
  };

  channel channel_;
  channel worker_end_;
  mapping memory_;
  worker_page* page_;
  task_producer tasks_;
  result_consumer results_;
  std::size_t modules_told_;
  std::unordered_set<std::uint64_t> tickets_told_;
  std::map<std::uint64_t, std::shared_ptr<segment>> result_segments_;
  std::shared_ptr<warm_results> warm_ = std::make_shared<warm_results>();
  std::deque<unsent_message> unsent_;
  std::deque<message> put_off_;
  bool has_more_ = false;
  bool starved_ = false;
  std::unordered_map<std::uint64_t, detail::descriptor_list> descriptors_;
  std::size_t descriptor_count_ = 0;

  worker_link(std::uint64_t worker_id, const serialization::setup_message& setup,
              std::pair<channel, channel> ends, unique_fd memory);
};

}  // namespace carom::runtime

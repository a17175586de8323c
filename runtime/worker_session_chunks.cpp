// SPDX-License-Identifier: BSL-1.0
// How a worker runs a chunk of map items.
#include <unistd.h>

#include <carom/detail/exception_codec.hpp>
#include <cstdint>
#include <cstring>
#include <exception>
#include <span>

#include "runtime/chunk_pace.hpp"
#include "runtime/clock.hpp"
#include "runtime/worker_identity.hpp"
#include "runtime/worker_session.hpp"

namespace carom::runtime {

using namespace serialization;

/// A chunk of map items under way.
class worker_session::running_chunk final : public detail::chunk_run {
 public:
  running_chunk(worker_session& session, const task_slot& slot, std::span<const std::byte> payload)
      : chunk_run(payload, slot.first, session.result_, &session.page_->header.cursor,
                  cursor_base(session.tasks_->position()), slot.flags & flag_timed),
        session_(&session),
        position_(session.tasks_->position()),
        timed_(slot.flags & flag_timed),
        published_(slot.first),
        stop_at_error_(slot.flags & flag_stop_at_error),
        pace_(session.last_start_) {}

  std::uint64_t allowance(std::uint64_t done) override {
    if (done == first()) return 1;  // the clock has just been read
    if (timed_) pause_clock();
    const auto next = pace_.next(done - published_, values().size(), steady_ns());
    if (next.publish) publish(done);
    return next.items;
  }

  bool failed(std::uint64_t item) override {
    if (refused_) std::rethrow_exception(refused_);
    if (timed_) pause_clock();
    publish(item);
    const auto error = detail::caught_exception();  // or this is the end
    detail::blob packed(&session_->segments_);
    detail::encode_exception(packed, error, ::getpid());
    session_->publish(
        {.position = position_, .kind = result_kind::item_error, .first = item, .count = 1},
        packed);
    published_ = item + 1;
    return !stop_at_error_;
  }

  void finished(std::uint64_t done) override {
    if (timed_) pause_clock();
    done_ = done;
  }

  /// What has finished and is not published yet; its values are left where they are.
  void flush() { publish(done_); }
  result_frame rest() const {
    result_frame frame{.position = position_, .kind = result_kind::chunk_done};
    if (done_ <= published_) return frame;
    frame.first = published_;
    frame.count = done_ - published_;
    return frame;
  }

 private:
  void begin_timed(std::uint64_t item) override {
    // Nothing is published of an item that the host has ended.
    pause_clock();
    show(item);
    const std::int64_t now = steady_ns();
    begin_soft_limits(soft_key(position_, item), now);
    session_->page_->header.item_started_ns.store(now, std::memory_order_relaxed);
    move_cursor(cursor_base(position_) | item);
  }

  /// Leaves the values of the items before `done` where the host finds them if this one is ended.
  void show(std::uint64_t done) {
    if (done == published_) return;
    if (values().size() > open_run::most_bytes || values().has_descriptors()) return publish(done);
    open_run& open = session_->page_->open;
    if (shown_ == 0) {
      open.position = position_;
      open.first = published_;
    }
    std::memcpy(open.bytes.data() + shown_, values().data() + shown_, values().size() - shown_);
    open.length = shown_ = values().size();
    open.count.store(done - published_, std::memory_order_release);
  }

  /// The item that the cursor names has ended.
  void pause_clock() noexcept {
    if (cursor_ && !(cursor_ & cursor_between)) move_cursor(cursor_ | cursor_between);
  }

  /// Unless the host has taken the cursor, which ends this process.
  void move_cursor(std::uint64_t to) noexcept {
    auto& cursor = session_->page_->header.cursor;
    std::uint64_t expected = cursor_;
    if (!cursor_)
      cursor.store(to, std::memory_order_release);  // what stands there is of another chunk
    else if (!cursor.compare_exchange_strong(expected, to, std::memory_order_acq_rel))
      await_the_end();
    cursor_ = to;
  }

  /// Publishes the values of the items before `done`.
  void publish(std::uint64_t done) {
    try {
      if (done > published_)
        session_->publish({.position = position_,
                           .kind = result_kind::items,
                           .first = published_,
                           .count = done - published_},
                          values());
    } catch (const encoding_error&) {
      values().clear();
      refuse(done, detail::caught_exception());
    }
    values().clear();
    if (timed_) session_->page_->open.count.store(0, std::memory_order_release);
    shown_ = 0;
    published_ = done;
  }

  /// The values of the items before `done` cannot be sent: each has failed. Throws where nothing
  /// may run behind a failed one: the rest of the chunk fails with it.
  void refuse(std::uint64_t done, const std::exception_ptr& why) {
    if (stop_at_error_) {
      refused_ = why;
      std::rethrow_exception(why);
    }
    detail::blob packed;
    detail::encode_exception(packed, why, ::getpid());
    for (std::uint64_t item = published_; item != done; ++item)
      session_->publish({.position = position_,
                         .kind = result_kind::item_error,
                         // What had gone ahead is taken with the first, and dropped.
                         .flags = item == published_ ? std::uint32_t{flag_descriptors} : 0,
                         .first = item,
                         .count = 1},
                        packed);
  }

  worker_session* session_;
  std::uint64_t position_;
  bool timed_;
  std::uint64_t cursor_ = 0;  // as this side has left it; 0: not moved yet
  std::uint64_t published_;
  std::uint64_t done_ = 0;   // known at the end
  std::uint64_t shown_ = 0;  // bytes of values in the open run
  bool stop_at_error_;
  std::exception_ptr refused_;
  chunk_pace pace_;
};

result_frame worker_session::run_chunk(const task_slot& slot, std::span<const std::byte> payload,
                                       detail::code_pointer entry) {
  running_chunk chunk(*this, slot, payload);
  try {
    reinterpret_cast<detail::chunk_entry>(entry)(chunk);
  } catch (...) {
    chunk.flush();
    throw;
  }
  return chunk.rest();
}

}  // namespace carom::runtime

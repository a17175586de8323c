// SPDX-License-Identifier: BSL-1.0
#include "runtime/worker_session.hpp"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <carom/detail/exception_codec.hpp>
#include <carom/detail/start_path.hpp>
#include <carom/errors.hpp>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include "runtime/clock.hpp"
#include "runtime/kept_mapping.hpp"
#include "runtime/worker_identity.hpp"
#include "runtime/worker_limits.hpp"

namespace carom::runtime {

using namespace serialization;

CAROM_START_PATH void worker_session::run_tasks() {
  for (;;) {
    const std::int64_t now = steady_ns();
    note_time(now);
    const task_slot* slot = tasks_->claim(now, [this](const task_slot& skipped) {
      if (skipped.flags & flag_descriptors) descriptors_of(tasks_->position());
    });
    if (!slot) break;
    // What a task needs went ahead of it on the channel: a module, a segment.
    if (messages_wait()) read_waiting_messages();
    last_start_ = now;
    if (slot->flags & flag_observed) ring_host();
    run(*slot);
    if (wants_out_) break;
  }
  last_start_ = 0;
}

CAROM_START_PATH void worker_session::note_time(std::int64_t now) {
  if (!last_start_) return;
  average_ns_ += (now - last_start_ - average_ns_) / 8;
  page_->header.average_ns.store(static_cast<std::uint64_t>(std::max<std::int64_t>(average_ns_, 1)),
                                 std::memory_order_relaxed);
}

CAROM_START_PATH std::span<const std::byte> worker_session::payload_of(const task_slot& slot) {
  if (!(slot.flags & flag_segment)) {
    if (const auto found = tasks_->payload(slot)) return *found;
    throw encoding_error("the task's arguments lie outside of the ring");
  }
  // The segment went ahead on the channel.
  while (!segments_.knows(slot.payload) && messages_wait()) receive_one();
  if (const auto found = segments_.read(slot.payload, slot.length)) return *found;
  throw encoding_error(
      "the task's arguments lie in a segment that this worker does not have: it had no free "
      "descriptor when that came");
}

/// What came ahead on the channel, taken out.
detail::descriptor_list worker_session::descriptors_of(std::uint64_t key) {
  read_waiting_messages();
  const auto it = descriptors_.find(key);
  if (it == descriptors_.end()) return {};
  detail::descriptor_list taken = std::move(it->second);
  descriptors_.erase(it);
  return taken;
}

/// Throws encoding_error for what cannot travel, and what could not for too long.
void worker_session::send_descriptors(std::uint64_t position, const detail::descriptor_list& list) {
  const auto all = list.entries();
  for (std::size_t at = 0; at < all.size(); at += channel::max_fds) {
    descriptors_message told{position, {}};
    std::vector<int> fds;
    for (const auto& one : all.subspan(at, std::min(channel::max_fds, all.size() - at))) {
      told.tickets.push_back(one.ticket);
      fds.push_back(one.fd);
    }
    const auto error =
        send_patiently(channel_, pack_message(worker_message_kind::descriptors, told), fds,
                       patience_in_shortage, true);
    if (error == channel_errc::end_of_file) leave(1);
    if (error) {
      went_ahead_ = at != 0;
      throw encoding_error("the descriptors of a result cannot be sent: " + error.message());
    }
  }
}

CAROM_START_PATH void worker_session::run(const task_slot& slot) {
  running().task_id.store(slot.task_id, std::memory_order_relaxed);
  begin_soft_limits(soft_key(tasks_->position(), 0), last_start_);
  // The slot's room is free before the host hears of the result, which may be what it waits for.
  const std::uint64_t position = tasks_->position();
  result_frame last{.position = position, .kind = result_kind::value};
  went_ahead_ = false;
  try {
    const auto payload = payload_of(slot);
    detail::descriptor_list descriptors;
    if (slot.flags & flag_descriptors)
      descriptors = descriptors_of(tasks_->position());
    else
      kept_mapping::drop();
    const detail::descriptor_scope in_reach(&descriptors);
    const auto entry = detail::resolve_code({slot.module, slot.offset});
    if (slot.flags & flag_chunk)
      last = run_chunk(slot, payload, entry);
    else
      reinterpret_cast<detail::task_entry>(entry)(payload, result_);
  } catch (...) {
    result_.clear();
    detail::encode_exception(result_, detail::caught_exception(), ::getpid());
    last = {.position = position,
            .kind = result_kind::error,
            .flags = std::exchange(went_ahead_, false) ? std::uint32_t{flag_descriptors} : 0};
  }
  finish();
  end_soft_limits();
  running().task_id.store(0, std::memory_order_relaxed);
  if (setup_.max_memory != 0) {
    kept_mapping::drop();
    weigh();
  }
  tasks_->leave();
  publish(last, result_);
  result_.clear();
}

CAROM_START_PATH void worker_session::finish() {
  if (!tasks_->finish()) await_the_end();
}

void worker_session::weigh() {
  const std::uint64_t born = page_->header.born_with_bytes.load(std::memory_order_relaxed);
  const std::uint64_t now = own_memory();
  if (now <= born || now - born <= setup_.max_memory) return;
  wants_out_ = true;
  page_->header.wants_out.store(1, std::memory_order_release);
}

/// The signal that ends this process is on its way, and no other task may meet it.
void worker_session::await_the_end() noexcept {
  for (;;) ::pause();
}

CAROM_START_PATH void worker_session::publish(result_frame frame, detail::blob& payload) {
  if (payload.has_descriptors()) [[unlikely]] {
    frame.flags |= flag_descriptors;
    try {
      send_descriptors(frame.position, *payload.find_descriptors());
    } catch (const encoding_error&) {
      payload.drop_descriptors();
      // Some of a chunk's items, of which others may be left to run.
      if (frame.kind == result_kind::items) throw;
      detail::blob packed;
      detail::encode_exception(packed, detail::caught_exception(), ::getpid());
      // What had gone ahead is taken with this, and dropped.
      return publish(
          {.position = frame.position, .kind = result_kind::error, .flags = flag_descriptors},
          packed);
    }
    payload.drop_descriptors();
  }
  if (payload.size() > largest_inline) {
    frame.flags |= flag_segment;
    frame.length = payload.size();
    frame.ticket = worker_segments::ticket(payload.detach_segment());
  } else {
    frame.payload = payload.bytes();
  }
  while (!results_->write(frame)) wait_for_room();
  if (results_->publish()) ring_host();
}

void worker_session::wait_for_room() {
  if (results_->publish()) ring_host();
  set_waits(worker_wait::results);
  // The host frees room and then looks at the flag; so look once more behind the flag.
  if (results_->room_changed()) {
    set_waits(worker_wait::no);
    return;
  }
  receive_one();
  set_waits(worker_wait::no);
}

CAROM_START_PATH void worker_session::set_waits(worker_wait what) {
  page_->header.worker_waits.store(static_cast<std::uint32_t>(what), std::memory_order_seq_cst);
}

CAROM_START_PATH bool worker_session::wait() {
  // Too big: the host has taken back, or will, what is in the ring.
  if (wants_out_) {
    ring_host();
    while (!leaving_) receive_one();
    return false;
  }
  // What tasks printed is seen when they are done, not when the worker leaves.
  ::fflush(nullptr);
  for (const std::int64_t until = steady_ns() + setup_.linger_ns; steady_ns() < until;) {
    if (!tasks_->empty()) return true;
    if (messages_wait()) break;  // perhaps to leave
    ::sched_yield();
  }
  kept_mapping::drop();
  while (!leaving_) {
    set_waits(worker_wait::tasks);
    const bool work = !tasks_->empty();
    if (!work) receive_one();
    set_waits(worker_wait::no);
    if (work || !tasks_->empty()) return true;
  }
  // Told to leave: the host has published nothing after that.
  return !tasks_->empty();
}

}  // namespace carom::runtime

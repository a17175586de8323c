// SPDX-License-Identifier: BSL-1.0
#include "runtime/worker_session.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>
#include <carom/log.hpp>
#include <carom/this_task.hpp>
#include <carom/this_worker.hpp>
#include <cstring>

#include "runtime/chunk_pace.hpp"
#include "runtime/clock.hpp"
#include "runtime/crash_report.hpp"
#include "runtime/kept_mapping.hpp"
#include "runtime/log.hpp"
#include "runtime/modules.hpp"
#include "runtime/own_process.hpp"
#include "runtime/proc_tree.hpp"
#include "runtime/worker_identity.hpp"
#include "runtime/worker_limits.hpp"

namespace carom::runtime {

using namespace serialization;

namespace {

/// exit() inside a task: says so and leaves, without the static destructors of a copied process.
void report_exit(int status, void*) {
  auto& self = identity();
  if (self.pid != ::getpid() || !self.page) return;
  if (running().task_id.load() != 0) {
    self.page->header.exit_status.store(status, std::memory_order_relaxed);
    self.page->header.exit_called.store(1, std::memory_order_release);
  }
  worker_session::leave(status);
}

/// What a worker needs beside its page, unless the process that it was forked from has done it.
void prepare_process() {
  if (!has_soft_signal()) {  // servers begin with all signals at their defaults
    install_soft_signal();
    install_crash_report();
  }
  static bool registered = false;
  if (std::exchange(registered, true)) return;
  // A process that a task forks does not have the page.
  ::pthread_atfork(nullptr, nullptr, [] {
    identity().page = nullptr;
    running().key.store(0, std::memory_order_relaxed);
  });
}

/// Found when the program is loaded, not when the first worker leaves: each is its first.
void (*volatile const leave_process)(int) = &::_exit;

}  // namespace

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
    const auto error = std::current_exception();
    if (timed_) pause_clock();
    publish(item);
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
    if (done > published_)
      session_->publish({.position = position_,
                         .kind = result_kind::items,
                         .first = published_,
                         .count = done - published_},
                        values());
    values().clear();
    if (timed_) session_->page_->open.count.store(0, std::memory_order_release);
    shown_ = 0;
    published_ = done;
  }

  worker_session* session_;
  std::uint64_t position_;
  bool timed_;
  std::uint64_t cursor_ = 0;  // as this side has left it; 0: not moved yet
  std::uint64_t published_;
  std::uint64_t done_ = 0;   // known at the end
  std::uint64_t shown_ = 0;  // bytes of values in the open run
  bool stop_at_error_;
  chunk_pace pace_;
};

void worker_session::rehearse() {
  inherit_peer_modules();
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

worker_session::worker_session(channel to_host) : channel_(std::move(to_host)) {
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
  own_process::become(setup_.origin);
  identity() = {setup_.index, ::getpid(), page_};
  if (setup_.weighed) page_->header.born_with_bytes.store(own_memory(), std::memory_order_relaxed);
  prepare_process();
  report_crashes_to(page_->crash);
  // Before whatever this process has inherited: a process whose pool this is has destructors of its
  // own.
  ::on_exit(&report_exit, nullptr);
}

void worker_session::receive_setup() {
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

void worker_session::start() {
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
      detail::encode_exception(packed, std::current_exception(), ::getpid());
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

void worker_session::finish_up() {
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

void worker_session::run_tasks() {
  for (;;) {
    const std::int64_t now = steady_ns();
    note_time(now);
    const task_slot* slot = tasks_->claim(now, [this](const task_slot& skipped) {
      if (skipped.flags & flag_descriptors) descriptors_of(tasks_->position());
    });
    if (!slot) break;
    last_start_ = now;
    if (slot->flags & flag_observed) ring_host();
    run(*slot);
    if (wants_out_) break;
    if (messages_wait()) read_waiting_messages();
  }
  last_start_ = 0;
}

void worker_session::note_time(std::int64_t now) {
  if (!last_start_) return;
  average_ns_ += (now - last_start_ - average_ns_) / 8;
  page_->header.average_ns.store(static_cast<std::uint64_t>(std::max<std::int64_t>(average_ns_, 1)),
                                 std::memory_order_relaxed);
}

std::span<const std::byte> worker_session::payload_of(const task_slot& slot) {
  if (!(slot.flags & flag_segment)) {
    if (const auto found = tasks_->payload(slot)) return *found;
    throw encoding_error("the task's arguments lie outside of the ring");
  }
  // The segment went ahead on the channel.
  while (!segments_.knows(slot.payload) && messages_wait()) receive_one();
  if (const auto found = segments_.read(slot.payload, slot.length)) return *found;
  throw encoding_error("the task's arguments lie in a segment that this worker does not have");
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

void worker_session::send_descriptors(std::uint64_t position, const detail::descriptor_list& list) {
  const auto all = list.entries();
  for (std::size_t at = 0; at < all.size(); at += channel::max_fds) {
    descriptors_message told{position, {}};
    std::vector<int> fds;
    for (const auto& one : all.subspan(at, std::min(channel::max_fds, all.size() - at))) {
      told.tickets.push_back(one.ticket);
      fds.push_back(one.fd);
    }
    if (channel_.send(pack_message(worker_message_kind::descriptors, told), fds, true)) leave(1);
  }
}

void worker_session::run(const task_slot& slot) {
  running().task_id.store(slot.task_id, std::memory_order_relaxed);
  begin_soft_limits(soft_key(tasks_->position(), 0), last_start_);
  // The slot's room is free before the host hears of the result, which may be what it waits for.
  const std::uint64_t position = tasks_->position();
  result_frame last{.position = position, .kind = result_kind::value};
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
    detail::encode_exception(result_, std::current_exception(), ::getpid());
    last = {.position = position, .kind = result_kind::error};
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

void worker_session::finish() {
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

void worker_session::publish(result_frame frame, detail::blob& payload) {
  if (payload.has_descriptors()) [[unlikely]] {
    frame.flags |= flag_descriptors;
    send_descriptors(frame.position, *payload.find_descriptors());
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

void worker_session::set_waits(worker_wait what) {
  page_->header.worker_waits.store(static_cast<std::uint32_t>(what), std::memory_order_seq_cst);
}

bool worker_session::wait() {
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

void worker_session::leave(int status) {
  ::fflush(nullptr);
  leave_process(status);
  ::abort();
}

}  // namespace carom::runtime

namespace carom {

std::shared_ptr<spdlog::logger> this_worker::log() { return carom::log(); }

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#include <sched.h>

#include <algorithm>
#include <carom/detail/async_access.hpp>
#include <carom/detail/exception_codec.hpp>
#include <carom/detail/map_state.hpp>
#include <carom/detail/task_node.hpp>
#include <carom/errors.hpp>
#include <carom/this_task.hpp>
#include <stdexcept>

#include "runtime/chunk_block.hpp"
#include "runtime/clock.hpp"
#include "runtime/futex.hpp"
#include "runtime/log.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/sliced_wait.hpp"
#include "runtime/task_ids.hpp"

namespace carom::detail {

struct task_continuation {
  std::function<void()> call;
  task_continuation* next = nullptr;
};

namespace {

constexpr std::int64_t brief_wait_ns = 20'000;

/// Stands in the list once it has been taken: later continuations run at once.
task_continuation* taken_mark() { return reinterpret_cast<task_continuation*>(1); }

void run_logged(const std::function<void()>& call) noexcept {
  try {
    try {
      call();
    } catch (const std::exception& e) {
      log()->error("a callback threw: {}", e.what());
    } catch (...) {
      log()->error("a callback threw something that is no std::exception");
    }
  } catch (...) {
    // The application's logger throws, too.
  }
}

}  // namespace

task_node::~task_node() {
  delete extra_;
  for (auto* one = continuations_.load(); one && one != taken_mark();) {
    auto* next = one->next;
    delete one;
    one = next;
  }
}

void task_node::destroy() noexcept {
  if (!chunk_) return delete this;
  auto* const chunk = static_cast<chunk_node*>(this);
  chunk_block* const block = chunk_->block;
  if (!block) return delete chunk;
  chunk->~chunk_node();
  block->leave(1);
}

task_extra& task_node::extra() {
  if (!extra_) extra_ = new task_extra;
  return *extra_;
}

std::string task_node::name() const {
  return code_name(function_ ? function_ : type_->entry, type_->type_name);
}

bool task_node::wait(std::optional<std::chrono::nanoseconds> timeout) const {
  if (settled()) return true;
  if (timeout && *timeout <= std::chrono::nanoseconds(0)) return false;
  if (id() != 0 && is_task_of_original(id()))
    throw pool_closed("this task's pool belongs to the process that this one was forked from");
  if (runtime::on_loop_thread())
    throw error(
        "waiting for a task on the loop thread would wait for itself: use then(), or an executor "
        "of your own for callbacks that wait");
  std::optional<std::chrono::steady_clock::time_point> deadline;
  if (timeout) {
    const auto now = std::chrono::steady_clock::now();
    if (*timeout < std::chrono::steady_clock::time_point::max() - now) deadline = now + *timeout;
  }
  // A small task is often over before this thread could fall asleep and be woken again.
  for (const std::int64_t until = runtime::steady_ns() + brief_wait_ns;
       runtime::steady_ns() < until;) {
    if (settled()) return true;
    ::sched_yield();
  }
  for (;;) {
    std::uint32_t found = state_pending;
    state_.compare_exchange_strong(found, state_awaited, std::memory_order_acquire);
    if (found == state_settled) return true;
    auto until = deadline;
    if (runtime::waits_in_task()) {  // this task has a soft limit of its own
      this_task::checkpoint();
      until = std::chrono::steady_clock::now() + runtime::sliced_wait::shortest;
      if (deadline) until = std::min(until, deadline);
    }
    runtime::futex_wait(state_, state_awaited, until);
    if (settled()) return true;
    if (deadline && std::chrono::steady_clock::now() >= *deadline) return false;
  }
}

bool task_node::settle(outcome_kind kind) noexcept {
  kind_ = kind;
  if (discarded()) payload_ = blob();
  // With on_settled's push and look: one of the two sees the other.
  if (state_.exchange(state_settled, std::memory_order_seq_cst) == state_awaited)
    runtime::futex_wake_all(state_);
  return continuations_.load(std::memory_order_seq_cst) != nullptr;
}

void task_node::run_continuations() noexcept {
  auto* list = continuations_.exchange(taken_mark(), std::memory_order_acq_rel);
  if (list == taken_mark()) return;
  task_continuation* oldest = nullptr;
  while (list) {
    auto* next = list->next;
    list->next = oldest;
    oldest = list;
    list = next;
  }
  while (oldest) {
    auto* next = oldest->next;
    run_logged(oldest->call);
    delete oldest;
    oldest = next;
  }
}

void task_node::on_settled(std::function<void()> call) {
  // Once it is in the list it may run, and let go of the caller's handle.
  retain();
  const task_ref kept(this);
  auto* one = new task_continuation{std::move(call), nullptr};
  auto* head = continuations_.load(std::memory_order_acquire);
  do {
    if (head == taken_mark()) {
      run_logged(one->call);
      delete one;
      return;
    }
    one->next = head;
  } while (!continuations_.compare_exchange_weak(head, one, std::memory_order_seq_cst,
                                                 std::memory_order_acquire));
  // Settled between the look and the push: then nobody else may come for the list. Whoever
  // exchanges it first runs it, each continuation once.
  if (state_.load(std::memory_order_seq_cst) == state_settled) run_continuations();
}

void append_chunk_record(blob& out, const chunk_record& record) {
  encode(out, record.first, record.count, std::uint64_t{record.bytes.size()}, record.failed);
  out.append(record.bytes.data(), record.bytes.size());
}

chunk_record next_chunk_record(std::span<const std::byte>& in) {
  chunk_record record{};
  if (in.size() < chunk_record::header_size) throw encoding_error("a chunk's record is cut short");
  std::tie(record.first, record.count, record.length, record.failed) =
      decode<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>(
          in.first(chunk_record::header_size));
  in = in.subspan(chunk_record::header_size);
  if (record.length > in.size()) throw encoding_error("a chunk's record is cut short");
  record.bytes = in.first(record.length);
  in = in.subspan(record.length);
  return record;
}

std::exception_ptr chunk_error(const chunk_record& record) {
  return decode_exception(record.bytes);
}

std::exception_ptr settled_error(const task_node& node) {
  return decode_exception(node.payload().bytes());
}

void throw_no_task() {
  throw std::logic_error("this async_result has no task: it was default-made or moved from");
}

void throw_get_timeout(const task_node& node) {
  throw timeout_error("task " + std::to_string(node.id()) + " '" + node.name() +
                      "' has not ended within the timeout of get(); it goes on");
}

void throw_if_failed(const task_node& node) {
  if (node.discarded()) throw error("the result of this task was discarded");
  if (node.kind() == outcome_kind::error) std::rethrow_exception(settled_error(node));
}

bool successful(const task_node& node) {
  if (!node.settled())
    throw error("task " + std::to_string(node.id()) + " has not ended: ask ready() first");
  return node.kind() == outcome_kind::value;
}

void discard(task_node& node) { node.discard(); }

void then(task_node& node, std::function<void(std::function<void()>)> where,
          std::function<void()> f) {
  if (!f) return;
  if (!where) {
    node.on_settled(std::move(f));
    return;
  }
  node.on_settled([where = std::move(where), f = std::move(f)] { where([f] { run_logged(f); }); });
}

}  // namespace carom::detail

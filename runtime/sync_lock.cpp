// SPDX-License-Identifier: BSL-1.0
#include "runtime/sync_lock.hpp"

#include <carom/errors.hpp>
#include <new>
#include <type_traits>
#include <utility>

#include "runtime/live_states.hpp"
#include "runtime/sliced_wait.hpp"

namespace carom::detail {
namespace {

using runtime::lock_outcome;
using runtime::sync_header;

constexpr sync_header::kind kind_of(bool recursive) {
  return recursive ? sync_header::kind::rlock : sync_header::kind::lock;
}

[[noreturn]] void throw_not_held() {
  throw process_error(
      "this thread does not hold the lock that it releases: nobody does, or another thread or "
      "process; only the one that locked it may unlock it");
}

[[noreturn]] void throw_deadlock() {
  throw process_error(
      "deadlock: this thread already holds the lock that it waits for; use an rlock to lock it more "
      "than once");
}

}  // namespace

std::shared_ptr<lock_state> lock_state::make(bool recursive) {
  auto made = std::make_shared<lock_state>(recursive);
  runtime::live_states<lock_state>::instance().add(made, made->memory_.fd());
  return made;
}

std::shared_ptr<lock_state> lock_state::unpack(byte_reader& in, bool recursive) {
  auto found = runtime::live_states<lock_state>::instance().find_or_make(
      runtime::unpack_sync_memory(in), [recursive](runtime::unique_fd fd) {
        return std::make_shared<lock_state>(std::move(fd), recursive);
      });
  if (found->recursive() != recursive)
    throw encoding_error("a lock's memory holds a lock of the other kind");
  return found;
}

lock_state::lock_state(bool recursive)
    : recursive_(recursive),
      memory_(sizeof(page)),
      page_(*new (&memory_.as<page>()) page(kind_of(recursive))) {
  static_assert(std::is_trivially_destructible_v<page>);
}

lock_state::lock_state(runtime::unique_fd fd, bool recursive)
    : recursive_(recursive),
      memory_(std::move(fd), kind_of(recursive), sizeof(page)),
      page_(memory_.as<page>()) {}

lock_state::~lock_state() {
  const std::uintptr_t holder = held_by_.load(std::memory_order_relaxed);
  if (holder == 0) return;
  // Some thread had it through this mapping when we last heard of it.
  try {
    const lock_outcome now = page_.mutex.try_lock();
    if (now == lock_outcome::timed_out) {
      // Perhaps another thread of this process still does: its list of robust mutexes leads in
      // here, and the kernel will follow it when the thread ends.
      if (holder != this_thread()) memory_.keep_mapped();
      return;
    }
    if (now != lock_outcome::acquired)
      page_.past.store(history::left_behind, std::memory_order_relaxed);
    page_.mutex.unlock();
  } catch (const std::exception&) {
    memory_.keep_mapped();  // corrupt: leave it alone
  }
}

acquire_result lock_state::acquire(const timeout& time) {
  lock_outcome outcome = page_.mutex.try_lock();
  const bool only_look = time.limit() && time.limit()->count() == 0;
  if (outcome == lock_outcome::deadlock && !recursive_ && only_look)
    return acquire_result::outcome::timed_out;
  if (outcome == lock_outcome::timed_out && !only_look)
    outcome = page_.mutex.lock_until(runtime::deadline_in(time.limit()));
  return settle(outcome);
}

void lock_state::acquire_at_last(lock_outcome first) {
  settle(first == lock_outcome::timed_out ? page_.mutex.lock_until(std::nullopt) : first);
}

acquire_result lock_state::settle(lock_outcome outcome) {
  switch (outcome) {
    case lock_outcome::timed_out: return acquire_result::outcome::timed_out;
    case lock_outcome::deadlock:
      if (!recursive_) throw_deadlock();
      deeper();
      return acquire_result::outcome::acquired;
    default: took(outcome == lock_outcome::abandoned);
  }
  return abandoned() ? acquire_result::outcome::abandoned : acquire_result::outcome::acquired;
}

void lock_state::note_past(bool from_the_dead) noexcept {
  const bool left = page_.past.load(std::memory_order_relaxed) == history::left_behind;
  page_.past.store(from_the_dead || left ? history::taken_over : history::none,
                   std::memory_order_relaxed);
}

void lock_state::deeper() {
  const std::uint32_t depth = page_.depth.load(std::memory_order_relaxed);
  if (depth == UINT32_MAX)
    throw process_error("an rlock is locked 2^32 times over; unlock it as often as you lock it");
  page_.depth.store(depth + 1, std::memory_order_relaxed);
}

bool lock_state::owned() {
  switch (page_.mutex.try_lock()) {
    case lock_outcome::deadlock: return true;
    case lock_outcome::timed_out: return false;
    case lock_outcome::abandoned:
      // That was not ours to hear.
      page_.past.store(history::left_behind, std::memory_order_relaxed);
      [[fallthrough]];
    case lock_outcome::acquired: page_.mutex.unlock();
  }
  return false;
}

void lock_state::release() {
  // Of a lock that is not ours this may be anybody's number; then the mutex knows it.
  const std::uint32_t depth = page_.depth.load(std::memory_order_relaxed);
  if (depth <= 1 || !recursive_) return let_go();
  if (!owned()) throw_not_held();
  page_.depth.store(depth - 1, std::memory_order_relaxed);
}

void lock_state::let_go() {
  if (held_by_.load(std::memory_order_relaxed) == this_thread())
    held_by_.store(0, std::memory_order_relaxed);
  if (!page_.mutex.unlock()) throw_not_held();
}

std::uint32_t lock_state::release_all() {
  const std::uint32_t depth = page_.depth.load(std::memory_order_relaxed);
  let_go();
  return depth;
}

void lock_state::take_back(std::uint32_t depth) {
  const lock_outcome outcome = page_.mutex.lock();
  took(outcome == lock_outcome::abandoned);
  page_.depth.store(depth, std::memory_order_relaxed);
}

}  // namespace carom::detail

namespace carom {

using detail::lock_state;

exclusive_lock::exclusive_lock() : state_(lock_state::make(false)) {}
exclusive_lock::exclusive_lock(std::shared_ptr<lock_state> state) noexcept
    : state_(std::move(state)) {}
exclusive_lock::~exclusive_lock() = default;
void exclusive_lock::lock() { state_->acquire(); }
void exclusive_lock::unlock() { state_->release(); }
bool exclusive_lock::try_lock() {
  return static_cast<bool>(state_->acquire(std::chrono::nanoseconds(0)));
}
acquire_result exclusive_lock::acquire(detail::timeout time) { return state_->acquire(time); }
bool exclusive_lock::abandoned() const noexcept { return state_->abandoned(); }
void exclusive_lock::pack(detail::byte_writer& out) const { state_->pack(out); }
exclusive_lock exclusive_lock::unpack(detail::byte_reader& in) {
  return exclusive_lock(lock_state::unpack(in, false));
}

rlock::rlock() : state_(lock_state::make(true)) {}
rlock::rlock(std::shared_ptr<lock_state> state) noexcept : state_(std::move(state)) {}
rlock::~rlock() = default;
void rlock::lock() { state_->acquire(); }
void rlock::unlock() { state_->release(); }
bool rlock::try_lock() { return static_cast<bool>(state_->acquire(std::chrono::nanoseconds(0))); }
acquire_result rlock::acquire(detail::timeout time) { return state_->acquire(time); }
bool rlock::abandoned() const noexcept { return state_->abandoned(); }
void rlock::pack(detail::byte_writer& out) const { state_->pack(out); }
rlock rlock::unpack(detail::byte_reader& in) { return rlock(lock_state::unpack(in, true)); }

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <array>
#include <atomic>
#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "runtime/futex.hpp"
#include "runtime/robust_mutex.hpp"
#include "runtime/sliced_wait.hpp"
#include "runtime/sync_lock.hpp"
#include "runtime/sync_memory.hpp"

namespace carom::detail {

using runtime::holds;
using runtime::lock_outcome;
using runtime::robust_mutex;

namespace {

/// A place in which one thread waits. Its `word` holds a phase and part of the waiter's ticket, so
/// that it never means two waiters.
struct waiter_slot {
  enum phase : std::uint32_t { empty, waiting, notified };

  static std::uint32_t word_of(std::uint64_t ticket, phase now) {
    return static_cast<std::uint32_t>(ticket << 2) | now;
  }
  static phase phase_of(std::uint32_t word) { return static_cast<phase>(word & 3); }

  robust_mutex alive;  // the waiter's for as long as it waits: who can take it knows that it died
  std::atomic<std::uint32_t> word{0};
  std::atomic<std::uint64_t> ticket{0};  // the waiter's place in the order of arrival
  std::atomic<std::uint64_t> reach{0};   // of a notification: the last ticket that it was for
};

struct condition_page {
  static constexpr std::uint32_t slots = condition::max_waiters;

  runtime::sync_header header{runtime::sync_header::kind::condition};
  std::uint64_t lock_inode = 0;
  std::atomic<std::uint32_t> ready{0};  // how many slots have been made
  std::atomic<std::uint64_t> arrivals{0};
  // Untouched until it is needed, so that a condition with few waiters takes a page.
  alignas(waiter_slot) std::byte memory[slots][sizeof(waiter_slot)];

  waiter_slot& slot(std::uint32_t i) noexcept { return reinterpret_cast<waiter_slot&>(memory[i]); }
  std::uint32_t count() const noexcept { return std::min(ready.load(), slots); }
};

std::uint64_t inode_of(const lock_state& lock) { return lock.memory().inode(); }

}  // namespace

/// One process's mapping of a condition, and its lock.
///
/// Slots are taken, notified and given back by who holds the lock, so there is order among those.
/// But that one may die in between, and so may waiters: whoever finds a slot's `alive` free while
/// the slot is in use has found a dead waiter, owns the slot by that, and passes on what had
/// reached it. Waiters look for that at the end of each slice, without the lock; therefore phases
/// change by compare-and-swap only.
class condition_state {
 public:
  explicit condition_state(std::shared_ptr<lock_state> lock)
      : lock_(std::move(lock)),
        memory_(sizeof(condition_page)),
        page_(*new (&memory_.as<condition_page>()) condition_page) {
    page_.lock_inode = inode_of(*lock_);
  }
  condition_state(runtime::unique_fd fd, std::shared_ptr<lock_state> lock)
      : lock_(std::move(lock)),
        memory_(std::move(fd), runtime::sync_header::kind::condition, sizeof(condition_page)),
        page_(memory_.as<condition_page>()) {
    if (page_.lock_inode != inode_of(*lock_))
      throw encoding_error("a condition has arrived with another's lock");
  }

  lock_state& lock() noexcept { return *lock_; }

  bool wait(const timeout& time) {
    require_lock("wait");
    waiter_slot& mine = take_slot();
    const std::uint32_t depth = lock_->release_all();
    std::exception_ptr limit;
    try {
      sleep(mine, time);
    } catch (...) {
      limit = std::current_exception();
    }
    lock_->take_back(depth);
    const bool reached = leave(mine, limit != nullptr);
    if (limit) std::rethrow_exception(limit);
    return reached;
  }

  void notify(std::uint32_t n) {
    require_lock("notify");
    for (std::uint32_t i = 0; i < n; ++i)
      if (!notify_first(page_.arrivals.load())) return;
  }

  void pack(byte_writer& out) const {
    out.put_raw(static_cast<unsigned char>(lock_->recursive()));
    lock_->pack(out);
    memory_.pack(out);
  }

 private:
  void require_lock(const char* what) {
    if (!lock_->owned())
      throw process_error(std::string("condition: lock it before you ") + what +
                          "; this thread does not hold its lock");
  }

  waiter_slot& take_slot() {
    std::uint32_t count = page_.count();
    for (std::uint32_t i = 0; i < count; ++i)
      if (waiter_slot& slot = page_.slot(i);
          waiter_slot::phase_of(slot.word.load()) == waiter_slot::empty && settle(slot))
        return enter(slot);
    if (count < condition_page::slots) {
      // Who dies in here leaves a slot that is not counted yet and will be made anew.
      waiter_slot& slot = *new (&page_.slot(count)) waiter_slot;
      slot.alive.try_lock();
      page_.ready.store(count + 1);
      return enter(slot);
    }
    for (std::uint32_t i = 0; i < count; ++i)
      if (waiter_slot& slot = page_.slot(i); settle(slot)) return enter(slot);
    throw process_error("condition: " + std::to_string(condition::max_waiters) +
                        " threads wait already; use several conditions");
  }

  waiter_slot& enter(waiter_slot& slot) {
    const std::uint64_t ticket = page_.arrivals.fetch_add(1) + 1;
    slot.reach.store(0);
    slot.ticket.store(ticket);
    slot.word.store(waiter_slot::word_of(ticket, waiter_slot::waiting));
    return slot;
  }

  /// Gives the slot back; whether a notification had reached it, which then is `unwanted` or used.
  bool leave(waiter_slot& mine, bool unwanted) {
    std::uint32_t word = mine.word.load();
    if (waiter_slot::phase_of(word) == waiter_slot::waiting)
      mine.word.compare_exchange_strong(word, waiter_slot::empty);
    const bool reached = waiter_slot::phase_of(word) == waiter_slot::notified;
    if (reached && unwanted) pass_on(mine.reach.load());
    if (reached) mine.word.store(waiter_slot::empty);
    mine.alive.unlock();
    return reached;
  }

  void sleep(waiter_slot& mine, const timeout& time) {
    runtime::sliced_wait waiting(time.limit());
    for (;;) {
      const std::uint32_t word = mine.word.load();
      if (waiter_slot::phase_of(word) != waiter_slot::waiting) return;
      if (!waiting.sleep(mine.word, word)) return;
      if (mine.word.load() == word) pass_on_from_the_dead();
    }
  }

  /// Takes the slot if its waiter is dead, or none, and empties it. The caller then has `alive`.
  bool settle(waiter_slot& slot) {
    if (!holds(slot.alive.try_lock())) return false;
    for (;;) {
      std::uint32_t word = slot.word.load();
      if (waiter_slot::phase_of(word) == waiter_slot::empty) return true;
      // First pass on, then empty: who dies in between does not lose what somebody waits for.
      if (waiter_slot::phase_of(word) == waiter_slot::notified) pass_on(slot.reach.load());
      if (slot.word.compare_exchange_strong(word, waiter_slot::empty)) return true;
    }
  }

  void pass_on_from_the_dead() {
    const std::uint32_t count = page_.count();
    for (std::uint32_t i = 0; i < count; ++i)
      if (waiter_slot& slot = page_.slot(i);
          waiter_slot::phase_of(slot.word.load()) == waiter_slot::notified && settle(slot))
        slot.alive.unlock();
  }

  /// To the first that waits and was there when it was sent.
  void pass_on(std::uint64_t reach) { notify_first(reach); }

  /// Notifies the living waiter with the lowest ticket up to `reach`; false if there is none.
  bool notify_first(std::uint64_t reach) {
    for (;;) {
      waiter_slot* first = nullptr;
      std::uint32_t first_word = 0;
      std::uint64_t first_ticket = reach;
      const std::uint32_t count = page_.count();
      for (std::uint32_t i = 0; i < count; ++i) {
        waiter_slot& slot = page_.slot(i);
        const std::uint32_t word = slot.word.load();
        const std::uint64_t ticket = slot.ticket.load();
        if (waiter_slot::phase_of(word) != waiter_slot::waiting || ticket > first_ticket ||
            waiter_slot::word_of(ticket, waiter_slot::waiting) != word)
          continue;
        first = &slot;
        first_word = word;
        first_ticket = ticket;
      }
      if (!first) return false;
      if (settle(*first)) {
        first->alive.unlock();
        continue;
      }
      // Only up: another notifier may be at the same slot, and the one that loses below must not
      // take from what the other's notification was for.
      std::uint64_t known = first->reach.load();
      while (known < reach && !first->reach.compare_exchange_weak(known, reach)) {
      }
      if (!first->word.compare_exchange_strong(
              first_word, waiter_slot::word_of(first_ticket, waiter_slot::notified)))
        continue;
      runtime::futex_wake_all_shared(first->word);
      return true;
    }
  }

  std::shared_ptr<lock_state> lock_;
  runtime::sync_memory memory_;
  condition_page& page_;
};

}  // namespace carom::detail

namespace carom {

using detail::condition_state;
using detail::lock_state;

condition::condition() : condition(rlock()) {}
condition::condition(exclusive_lock over)
    : state_(std::make_shared<condition_state>(std::move(over.state_))) {}
condition::condition(rlock over)
    : state_(std::make_shared<condition_state>(std::move(over.state_))) {}
condition::condition(std::shared_ptr<condition_state> state) noexcept : state_(std::move(state)) {}
condition::~condition() = default;

void condition::lock() { state_->lock().acquire(); }
void condition::unlock() { state_->lock().release(); }
bool condition::try_lock() {
  return static_cast<bool>(state_->lock().acquire(std::chrono::nanoseconds(0)));
}
acquire_result condition::acquire(detail::timeout time) { return state_->lock().acquire(time); }
bool condition::abandoned() const noexcept { return state_->lock().abandoned(); }

bool condition::wait(detail::timeout time) {
  const auto while_waiting = state_;
  return while_waiting->wait(time);
}

void condition::notify(int n) {
  if (n <= 0)
    throw std::invalid_argument("a condition notifies at least one, not " + std::to_string(n));
  state_->notify(static_cast<std::uint32_t>(n));
}
void condition::notify_all() { state_->notify(max_waiters); }

void condition::pack(detail::byte_writer& out) const { state_->pack(out); }
condition condition::unpack(detail::byte_reader& in) {
  const bool recursive = in.get_raw<unsigned char>() == 1;
  auto over = lock_state::unpack(in, recursive);
  return condition(
      std::make_shared<condition_state>(runtime::unpack_sync_memory(in), std::move(over)));
}

}  // namespace carom

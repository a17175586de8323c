// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <atomic>
#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "runtime/barrier_action.hpp"
#include "runtime/futex.hpp"
#include "runtime/robust_mutex.hpp"
#include "runtime/sliced_wait.hpp"
#include "runtime/sync_memory.hpp"

namespace carom::detail {

using runtime::holds;
using runtime::robust_guard;
using runtime::robust_mutex;

namespace {

/// A place in which one party waits. All but `alive` is changed under the barrier's `guard`.
struct party_slot {
  enum class phase : std::uint32_t { empty, waiting, passed, broken };

  robust_mutex alive;  // the party's for as long as it waits: who can take it knows that it died
  std::atomic<phase> now{phase::empty};
};

struct barrier_page {
  barrier_page(std::uint32_t parties, std::int64_t time_ns)
      : header(runtime::sync_header::kind::barrier, parties), default_ns(time_ns) {}

  /// Those who have passed may still be on their way out when all others come again.
  static std::size_t slots_for(std::uint32_t parties) { return 2 * std::size_t{parties} + 16; }
  static std::size_t size_for(std::uint32_t parties) {
    return sizeof(barrier_page) + slots_for(parties) * sizeof(party_slot);
  }

  runtime::sync_header header;
  std::int64_t default_ns;  // of a wait without a time; negative is for ever
  robust_mutex guard;
  robust_mutex watch;                   // of the one who looks after the dead
  std::atomic<std::uint32_t> ready{0};  // how many slots have been made
  std::atomic<std::uint32_t> waiting{0};
  std::atomic<std::uint32_t> acting{0};  // all are there, and one runs the action
  std::atomic<std::uint32_t> is_broken{0};
  std::atomic<std::uint32_t> in_change{
      0};  // if its owner dies then, what `guard` guards is not whole
  std::atomic<std::uint32_t> changes{0};  // futex
};

}  // namespace

/// One process's mapping of a barrier. Under `guard` it is always whole, or `in_change`; in the
/// latter case whoever comes next finds its owner dead, and breaks it.
class barrier_state {
 public:
  barrier_state(std::uint32_t parties, std::int64_t default_ns)
      : parties_(parties),
        memory_(barrier_page::size_for(parties)),
        page_(*new (&memory_.as<barrier_page>()) barrier_page(parties, default_ns)) {}

  explicit barrier_state(runtime::unique_fd fd)
      : memory_(std::move(fd), runtime::sync_header::kind::barrier, barrier_page::size_for(1),
                barrier_page::size_for(barrier::max_parties)),
        page_(memory_.as<barrier_page>()) {
    parties_ = page_.header.count;  // a copy: later writers do not change it
    if (parties_ < 1 || parties_ > barrier::max_parties ||
        memory_.size() != barrier_page::size_for(parties_))
      throw encoding_error("a barrier's memory is corrupt");
  }

  std::uint32_t parties() const noexcept { return parties_; }
  timeout default_time() const {
    if (page_.default_ns < 0) return std::nullopt;
    return std::chrono::nanoseconds(page_.default_ns);
  }

  std::uint32_t wait(const timeout& time, const packed_call* action) {
    runtime::sliced_wait waiting(time.limit(), longest_slice);
    std::uint32_t number = 0;
    party_slot& mine = arrive(waiting, number);
    if (number + 1 < parties_)
      await(mine, waiting);
    else
      pass(mine, action);
    return number;
  }

  void reset() {
    const section in(*this);
    look_after_the_dead();  // none of before breaks what begins now
    begin_change();
    break_up();
    page_.is_broken.store(0);
    end_change();
  }

  void abort() {
    const section in(*this);
    begin_change();
    break_up();
    end_change();
  }

  std::uint32_t waiting() {
    const section in(*this);
    look_after_the_dead();
    return page_.waiting.load();
  }

  bool is_broken() {
    const section in(*this);
    look_after_the_dead();
    return page_.is_broken.load() != 0;
  }

  void pack(byte_writer& out) const { memory_.pack(out); }

 private:
  using phase = party_slot::phase;

  /// How often somebody looks whether all live, and how often the others look whether he does.
  static constexpr std::chrono::nanoseconds longest_slice = std::chrono::milliseconds(40);

  /// Holds the guard, and leaves the barrier whole though its last owner has died.
  struct section : robust_guard {
    explicit section(barrier_state& state) : robust_guard(state.page_.guard) {
      if (abandoned() && state.page_.in_change.load() != 0) {
        state.break_up();
        state.end_change();
      }
    }
  };

  party_slot& slot(std::size_t i) const noexcept {
    auto* const first = reinterpret_cast<party_slot*>(&page_ + 1);
    return first[i];
  }
  std::size_t count() const noexcept {
    return std::min<std::size_t>(page_.ready.load(), barrier_page::slots_for(parties_));
  }

  void begin_change() noexcept { page_.in_change.store(1); }
  void end_change() noexcept {
    page_.in_change.store(0);
    page_.changes.fetch_add(1);
    runtime::futex_wake_all_shared(page_.changes);
  }

  /// Those that wait are to learn `outcome`, and nobody waits any more. Within a change.
  void settle_all(phase outcome) {
    for (std::size_t i = 0, end = count(); i < end; ++i)
      if (slot(i).now.load() == phase::waiting) slot(i).now.store(outcome);
    page_.waiting.store(0);
    page_.acting.store(0);
  }
  void break_up() {
    page_.is_broken.store(1);
    settle_all(phase::broken);
  }

  /// Breaks the barrier if one has died in `wait`, be it that all had come: it will not come again.
  /// Whether it had to.
  bool look_after_the_dead() {
    bool lost = false;
    for (std::size_t i = 0, end = count(); i < end; ++i) {
      const phase is = slot(i).now.load();
      if ((is != phase::waiting && is != phase::passed) || !holds(slot(i).alive.try_lock()))
        continue;
      if (!std::exchange(lost, true)) begin_change();
      if (is == phase::passed) slot(i).now.store(phase::empty);
      slot(i).alive.unlock();
    }
    if (!lost) return false;
    break_up();
    end_change();
    return true;
  }

  /// A slot that nobody living has, with its `alive` locked; null if there is none.
  party_slot* take_slot() {
    const std::size_t made = count();
    for (std::size_t i = 0; i < made; ++i) {
      const phase is = slot(i).now.load();
      if (is == phase::waiting || is == phase::passed) continue;
      if (holds(slot(i).alive.try_lock())) return &slot(i);
    }
    if (made == barrier_page::slots_for(parties_)) return nullptr;
    party_slot* const fresh = new (&slot(made)) party_slot;
    fresh->alive.try_lock();
    page_.ready.store(static_cast<std::uint32_t>(made + 1));
    return fresh;
  }

  /// Joins the party that is gathering. A full one is waited for until it is through.
  party_slot& arrive(runtime::sliced_wait& waiting, std::uint32_t& number) {
    for (;;) {
      const std::uint32_t before = page_.changes.load();
      {
        const section in(*this);
        look_after_the_dead();
        if (page_.is_broken.load() != 0) throw broken_barrier();
        const std::uint32_t there = page_.waiting.load();
        begin_change();
        party_slot* const mine =
            page_.acting.load() == 0 && there < parties_ ? take_slot() : nullptr;
        if (mine) {
          number = there;
          mine->now.store(phase::waiting);
          page_.waiting.store(there + 1);
          if (there + 1 == parties_) page_.acting.store(1);
        }
        page_.in_change.store(0);  // nobody needs to be woken
        if (mine) return *mine;
      }
      // The party that is full misses nobody: it is not broken by one that is not of it.
      if (!waiting.sleep(page_.changes, before)) throw broken_barrier();
    }
  }

  /// Waits for the last one.
  void await(party_slot& mine, runtime::sliced_wait& waiting) {
    std::exception_ptr limit;
    bool watching = false;
    try {
      for (;;) {
        const std::uint32_t before = page_.changes.load();
        if (mine.now.load() != phase::waiting) break;
        if (!watching) watching = holds(page_.watch.try_lock());
        if (watching) {
          const section in(*this);
          if (look_after_the_dead()) break;
        }
        if (!waiting.sleep(page_.changes, before)) break;
      }
    } catch (...) {
      limit = std::current_exception();
    }
    if (watching) page_.watch.unlock();
    const bool passed = leave(mine);
    if (limit) std::rethrow_exception(limit);
    if (!passed) throw broken_barrier();
  }

  /// The last one's part: the action, then all go on.
  void pass(party_slot& mine, const packed_call* action) {
    std::exception_ptr thrown;
    if (action) {
      try {
        run(*action);
      } catch (...) {
        thrown = std::current_exception();
      }
    }
    {
      const section in(*this);
      if (mine.now.load() == phase::waiting && !look_after_the_dead() && !thrown) {
        begin_change();
        settle_all(phase::passed);
        end_change();
      }
    }
    const bool passed = leave(mine);
    if (thrown) std::rethrow_exception(thrown);
    if (!passed) throw broken_barrier();
  }

  /// Gives the slot back. Who leaves without an outcome breaks the barrier.
  bool leave(party_slot& mine) {
    const section in(*this);
    if (mine.now.load() == phase::waiting) {
      begin_change();
      break_up();
      end_change();
    }
    const bool passed = mine.now.exchange(phase::empty) == phase::passed;
    mine.alive.unlock();
    return passed;
  }

  static void run(const packed_call& action) {
    const descriptor_scope in_reach(call_access::descriptors(action));
    blob ignored;
    call_access::run(action, ignored);
  }

  std::uint32_t parties_ = 0;
  runtime::sync_memory memory_;
  barrier_page& page_;
};

namespace {

std::uint32_t checked_parties(int parties) {
  if (parties < 1 || parties > barrier::max_parties)
    throw std::invalid_argument("a barrier has 1 to " + std::to_string(barrier::max_parties) +
                                " parties, not " + std::to_string(parties));
  return static_cast<std::uint32_t>(parties);
}

std::int64_t in_ns(const timeout& time) { return time.limit() ? time.limit()->count() : -1; }

}  // namespace
}  // namespace carom::detail

namespace carom {

using detail::barrier_state;

barrier::barrier(int parties, packed_call action, detail::timeout time)
    : state_(
          std::make_shared<barrier_state>(detail::checked_parties(parties), detail::in_ns(time))),
      action_(action.valid() ? runtime::keep_action(std::move(action)) : nullptr) {}
barrier::barrier(std::shared_ptr<barrier_state> state,
                 std::shared_ptr<const packed_call> action) noexcept
    : state_(std::move(state)), action_(std::move(action)) {}
barrier::~barrier() = default;

int barrier::wait() { return wait(state_->default_time()); }
int barrier::wait(detail::timeout time) {
  const barrier while_waiting = *this;
  runtime::expect_inherited(action_);
  return static_cast<int>(while_waiting.state_->wait(time, while_waiting.action_.get()));
}
void barrier::reset() { state_->reset(); }
void barrier::abort() { state_->abort(); }
int barrier::parties() const noexcept { return static_cast<int>(state_->parties()); }
int barrier::n_waiting() const { return static_cast<int>(state_->waiting()); }
bool barrier::broken() const { return state_->is_broken(); }

void barrier::pack(detail::byte_writer& out) const {
  runtime::expect_inherited(action_);
  state_->pack(out);
  out.put_raw(static_cast<unsigned char>(action_ != nullptr));
  if (action_) runtime::pack_action(out, *action_);
}
barrier barrier::unpack(detail::byte_reader& in) {
  auto state = std::make_shared<barrier_state>(runtime::unpack_sync_memory(in));
  std::shared_ptr<const packed_call> action;
  if (in.get_raw<unsigned char>() != 0) action = runtime::unpack_action(in);
  return barrier(std::move(state), std::move(action));
}

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#include <atomic>
#include <carom/sync.hpp>
#include <memory>
#include <new>
#include <utility>

#include "runtime/futex.hpp"
#include "runtime/sliced_wait.hpp"
#include "runtime/sync_memory.hpp"

namespace carom::detail {

/// One process's mapping of an event. Its state is one word, on which waiters sleep: the lowest bit
/// says whether it is set, the others count how often it was set, so that a waiter also knows of a
/// `set` that was taken back at once.
class event_state {
 public:
  event_state() : memory_(sizeof(page)), page_(*new (&memory_.as<page>()) page) {}
  explicit event_state(runtime::unique_fd fd)
      : memory_(std::move(fd), runtime::sync_header::kind::event, sizeof(page)),
        page_(memory_.as<page>()) {}

  void set() noexcept {
    std::uint32_t word = page_.word.load();
    do {
      if (word & 1) return wake();  // whoever has set it may have died before it woke anybody
    } while (!page_.word.compare_exchange_weak(word, word + 3));
    wake();
  }

  void clear() noexcept { page_.word.fetch_and(~std::uint32_t{1}); }
  bool is_set() const noexcept { return page_.word.load() & 1; }

  bool wait(const timeout& time) {
    const std::uint32_t before = page_.word.load();
    if (before & 1) return true;
    if (time.limit() && time.limit()->count() == 0) return false;
    runtime::sliced_wait waiting(time.limit());
    for (;;) {
      page_.asleep.store(1);
      if (page_.word.load() != before) return true;
      if (!waiting.sleep(page_.word, before)) return page_.word.load() != before;
    }
  }

  void pack(byte_writer& out) const { memory_.pack(out); }

 private:
  struct page {
    runtime::sync_header header{runtime::sync_header::kind::event};
    std::atomic<std::uint32_t> word{0};
    std::atomic<std::uint32_t> asleep{0};  // whether somebody may sleep
  };

  void wake() noexcept {
    if (page_.asleep.exchange(0) != 0) runtime::futex_wake_all_shared(page_.word);
  }

  runtime::sync_memory memory_;
  page& page_;
};

}  // namespace carom::detail

namespace carom {

using detail::event_state;

event::event() : state_(std::make_shared<event_state>()) {}
event::event(std::shared_ptr<event_state> state) noexcept : state_(std::move(state)) {}
event::~event() = default;
void event::set() noexcept { state_->set(); }
void event::clear() noexcept { state_->clear(); }
bool event::is_set() const noexcept { return state_->is_set(); }
bool event::wait(detail::timeout time) { return state_->wait(time); }
void event::pack(detail::byte_writer& out) const { state_->pack(out); }
event event::unpack(detail::byte_reader& in) {
  return event(std::make_shared<event_state>(runtime::unpack_sync_memory(in)));
}

}  // namespace carom

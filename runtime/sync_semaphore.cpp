// SPDX-License-Identifier: BSL-1.0
#include <atomic>
#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "runtime/sliced_wait.hpp"
#include "runtime/sync_memory.hpp"

namespace carom::detail {

using runtime::sync_header;

/// One process's mapping of a semaphore. Each change is one compare-and-swap: nobody can die in the
/// middle of it.
class semaphore_state {
 public:
  semaphore_state(int value, bool bounded)
      : memory_(sizeof(page)),
        page_(*new (&memory_.as<page>()) page(
            bounded ? sync_header::kind::bounded_semaphore : sync_header::kind::semaphore, value,
            bounded ? value : semaphore::max_value)) {}

  semaphore_state(runtime::unique_fd fd, sync_header::kind what)
      : memory_(std::move(fd), what, sizeof(page)), page_(memory_.as<page>()) {
    if (page_.most < 0 || get_value() < 0) throw encoding_error("a semaphore's memory is corrupt");
  }

  bool acquire(const timeout& time) {
    if (try_acquire()) return true;
    if (time.limit() && time.limit()->count() == 0) return false;
    runtime::sliced_wait waiting(time.limit());
    for (;;) {
      const std::uint32_t ticket = page_.gate.ticket();
      if (try_acquire()) return true;
      if (!waiting.sleep(page_.gate.word(), ticket)) return try_acquire();
    }
  }

  void release(int n) {
    if (n <= 0)
      throw std::invalid_argument("a semaphore releases at least one unit, not " +
                                  std::to_string(n));
    int value = page_.value.load();
    do {
      if (value < 0) throw process_error("a semaphore's memory is corrupt");
      if (std::int64_t{n} > std::int64_t{page_.most} - value)
        throw process_error("a semaphore is released too often: it has " + std::to_string(value) +
                            " units, may have " + std::to_string(page_.most) + ", and was to get " +
                            std::to_string(n) + " more");
    } while (!page_.value.compare_exchange_weak(value, value + n));
    // All of them: one alone might die before it takes the unit, and the others would sleep on.
    page_.gate.changed();
  }

  int get_value() const noexcept { return page_.value.load(); }
  bool bounded() const noexcept { return memory_.kind() == sync_header::kind::bounded_semaphore; }
  void pack(byte_writer& out) const { memory_.pack(out); }

 private:
  struct page {
    page(sync_header::kind what, int first, int bound) : header(what), most(bound), value(first) {}

    sync_header header;
    int most;
    std::atomic<int> value;
    runtime::shared_gate gate;
  };

  bool try_acquire() noexcept {
    int value = page_.value.load();
    while (value > 0)
      if (page_.value.compare_exchange_weak(value, value - 1)) return true;
    return false;
  }

  runtime::sync_memory memory_;
  page& page_;
};

namespace {

int checked_value(int value) {
  if (value < 0)
    throw std::invalid_argument("a semaphore begins with no unit or more, not with " +
                                std::to_string(value));
  return value;
}

}  // namespace
}  // namespace carom::detail

namespace carom {

using detail::semaphore_state;

semaphore::semaphore(int value)
    : state_(std::make_shared<semaphore_state>(detail::checked_value(value), false)) {}
semaphore::semaphore(int value, bounded)
    : state_(std::make_shared<semaphore_state>(detail::checked_value(value), true)) {}
semaphore::semaphore(std::shared_ptr<semaphore_state> state) noexcept : state_(std::move(state)) {}
semaphore::~semaphore() = default;

bool semaphore::acquire(detail::timeout time) { return state_->acquire(time); }
void semaphore::release(int n) { state_->release(n); }
int semaphore::get_value() const noexcept { return state_->get_value(); }

std::shared_ptr<semaphore_state> semaphore::unpack_state(detail::byte_reader& in, bool is_bounded) {
  using kind = runtime::sync_header::kind;
  return std::make_shared<semaphore_state>(runtime::unpack_sync_memory(in),
                                           is_bounded ? kind::bounded_semaphore : kind::semaphore);
}

// A bounded one may travel as a plain one, and is no less bounded for that.
void semaphore::pack(detail::byte_writer& out) const {
  out.put_raw(static_cast<unsigned char>(state_->bounded()));
  state_->pack(out);
}
semaphore semaphore::unpack(detail::byte_reader& in) {
  return semaphore(unpack_state(in, in.get_raw<unsigned char>() == 1));
}
bounded_semaphore bounded_semaphore::unpack(detail::byte_reader& in) {
  if (in.get_raw<unsigned char>() != 1) throw encoding_error("this is no bounded semaphore");
  return bounded_semaphore(unpack_state(in, true));
}

}  // namespace carom

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/errors.hpp>

#include "runtime/loop_thread.hpp"
#include "runtime/queue_client.hpp"
#include "runtime/queue_host.hpp"

namespace carom::runtime {

/// What a thread that waits has seen of the page; another picture is a reason to look again.
struct queue_client::picture {
  std::uint64_t item_tail;
  std::uint64_t puts;
  std::uint64_t put_head;
  std::uint32_t host_turn;
  std::uint32_t turn;

  bool operator==(const picture&) const = default;
};

/// A thread that waits counts in `wants`, which the host reads.
class queue_client::waiting_thread {
 public:
  explicit waiting_thread(std::atomic<std::uint64_t>* wants) : wants_(wants) { change(+1, 1); }
  ~waiting_thread() { change(-1, 0); }
  waiting_thread(const waiting_thread&) = delete;
  waiting_thread& operator=(const waiting_thread&) = delete;

  /// Says that it is alive and still waits.
  void beat() { change(0, 1); }

 private:
  void change(int threads, std::uint32_t beats) {
    if (!wants_) return;
    demand_word word = demand_word::of(wants_->load(std::memory_order_relaxed));
    word.threads += static_cast<std::uint32_t>(threads);
    word.beat += beats;
    wants_->store(word.word(), std::memory_order_seq_cst);
  }

  std::atomic<std::uint64_t>* wants_;
};

/// Waits until `ready`, false if `until` comes first. The lock is free while it sleeps. `brief`: it
/// waits for the host's answer and not for what others do.
template <class Ready>
bool queue_client::wait(lock& held, deadline until, std::atomic<std::uint64_t>* wants, bool brief,
                        Ready ready) {
  if (ready()) return true;
  waiting_thread self(wants);
  for (;; self.beat()) {
    const picture before = look();
    ring_host();
    if (ready()) return true;
    if (until && std::chrono::steady_clock::now() >= *until) return false;
    if (on_loop_thread() && (ends_.here || !brief)) {
      // Nobody else would do the host's work meanwhile.
      if (ends_.here) {
        held.unlock();
        ends_.here->turn();
        take(held);
        receive_all(false);
        if (ready()) return true;
      }
      throw process_error(
          "this would wait on carom's loop thread, which must go on: use put_nowait or get_nowait "
          "here, or wait in another thread");
    }
    if (led_)
      follow(held, before, until);
    else
      lead(held, before, until, brief);
    check_soft_limit(held);
  }
}

}  // namespace carom::runtime

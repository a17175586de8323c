// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <carom/detail/imap_window.hpp>
#include <carom/errors.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "actors/pool_handle.hpp"
#include "runtime/loop_thread.hpp"
#include "runtime/sliced_wait.hpp"

namespace carom::detail {
namespace {

/// Enough for the workers to have the next chunk at hand; more would only be memory.
constexpr std::size_t least_window = 64;
constexpr std::size_t chunks_per_worker = 8;
/// Packed arguments under way, unless a single chunk is larger.
constexpr std::size_t most_bytes = 64 * 1024 * 1024;

/// What a worker can count.
constexpr std::size_t most_items = INT32_MAX;

/// Chunks in the order in which they ended. Outlives the range: stragglers still report here.
struct arrivals {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<task_ref> settled;
};

}  // namespace

struct imap_window::state {
  using duration = std::chrono::nanoseconds;

  std::shared_ptr<pool_handle> pool;
  imap_order order;
  std::size_t chunk;
  source next_piece;
  std::size_t most_chunks;
  std::optional<imap_piece> held{};  // the pool has no room for it yet
  bool exhausted = false;
  std::exception_ptr last_error;  // the source's, behind all else
  struct place {
    task_ref task;  // null for an error
    std::size_t bytes;
    std::exception_ptr error;
  };
  std::deque<place> under_way;            // ordered
  std::deque<std::exception_ptr> failed;  // unordered
  std::size_t unordered_count = 0;
  std::size_t bytes = 0;
  std::shared_ptr<arrivals> arrived = std::make_shared<arrivals>();

  bool unordered() const { return order == imap_order::unordered; }
  std::size_t count() const { return under_way.size() + failed.size() + unordered_count; }

  /// Sends what there is room for. Waits for room only where there is nothing else to wait for.
  void fill(const std::optional<duration>& timeout) {
    for (;;) {
      if (!held) {
        if (exhausted || count() >= most_chunks || (bytes >= most_bytes && count() != 0)) return;
        take_piece();
      }
      if (held->chunk && !send(timeout)) return;
      if (held->error) place_error(std::move(held->error), held->last);
      held.reset();
    }
  }

  void take_piece() {
    held = next_piece(*pool, chunk);
    exhausted = held->last;
    if (!held->chunk || !unordered()) return;
    task_node* const node = held->chunk.get();
    node->on_settled([to = arrived, node, size = node->payload().size()] {
      node->retain();
      std::lock_guard lock(to->mutex);
      to->settled.push_back(task_ref(node));
      node->set_admitted_bytes(size);
      to->changed.notify_one();
    });
  }

  bool send(const std::optional<duration>& timeout) {
    task_ref& next = held->chunk;
    const std::size_t size = next->payload().size();
    try {
      if (!pool->try_submit(next)) {
        if (count() != 0) return false;
        if (!pool->submit(next, timeout))
          throw timeout_error("the pool has had no room for an item of imap in time; ask again");
      }
    } catch (...) {
      // First what is under way, where it is.
      if (count() == 0) throw;
      return false;
    }
    bytes += size;
    if (unordered()) {
      ++unordered_count;
      next = {};
    } else {
      under_way.push_back({std::move(next), size, nullptr});
    }
    return true;
  }

  void place_error(std::exception_ptr error, bool last) {
    if (last)
      last_error = std::move(error);
    else if (unordered())
      failed.push_back(std::move(error));
    else
      under_way.push_back({{}, 0, std::move(error)});
  }

  /// Neither if it was not there in time.
  imap_outcome take_ordered(std::optional<duration> timeout) {
    place& first = under_way.front();
    if (first.task && !first.task->wait(timeout)) return {};
    imap_outcome next{std::move(first.task), std::move(first.error)};
    bytes -= first.bytes;
    under_way.pop_front();
    return next;
  }

  imap_outcome take_unordered(std::optional<duration> timeout) {
    if (!failed.empty()) {
      imap_outcome next{{}, std::move(failed.front())};
      failed.pop_front();
      return next;
    }
    if (!pool->of_this_process())
      throw pool_closed("this imap belongs to the process that this one was forked from");
    std::unique_lock lock(arrived->mutex);
    const auto any = [&] { return !arrived->settled.empty(); };
    if (runtime::on_loop_thread() && !any())
      throw error("reading imap_unordered on the loop thread would wait for itself");
    if (!runtime::wait_in_slices(arrived->changed, lock, runtime::deadline_in(timeout), any))
      return {};
    task_ref done = std::move(arrived->settled.front());
    arrived->settled.pop_front();
    bytes -= done->admitted_bytes();
    --unordered_count;
    return {std::move(done), nullptr};
  }
};

imap_window::imap_window(std::shared_ptr<pool_handle> pool, imap_order order, std::size_t chunk,
                         source next_piece)
    : state_(std::make_unique<state>()) {
  if (chunk == 0) throw std::invalid_argument("imap needs chunks of at least one item");
  state_->most_chunks =
      std::max(least_window, chunks_per_worker * static_cast<std::size_t>(pool->processes()));
  state_->pool = std::move(pool);
  state_->order = order;
  state_->chunk = std::min(chunk, most_items);
  state_->next_piece = std::move(next_piece);
}

imap_window::imap_window(imap_window&&) noexcept = default;
imap_window& imap_window::operator=(imap_window&&) noexcept = default;
imap_window::~imap_window() = default;

imap_outcome imap_window::next(std::optional<std::chrono::nanoseconds> timeout) {
  using clock = std::chrono::steady_clock;
  state& s = *state_;
  const auto begun = timeout ? clock::now() : clock::time_point();
  s.fill(timeout);
  if (s.count() == 0) return {{}, std::exchange(s.last_error, nullptr)};
  if (timeout) timeout = std::max(*timeout - (clock::now() - begun), std::chrono::nanoseconds(0));
  imap_outcome next = s.unordered() ? s.take_unordered(timeout) : s.take_ordered(timeout);
  if (!next.chunk && !next.error)
    throw timeout_error("the next item of imap was not there in time; ask again");
  return next;
}

}  // namespace carom::detail

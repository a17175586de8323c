// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <carom/detail/imap_window.hpp>
#include <carom/errors.hpp>
#include <condition_variable>
#include <mutex>
#include <stdexcept>

#include "actors/pool_handle.hpp"
#include "runtime/loop_thread.hpp"

namespace carom::detail {
namespace {

/// Enough for the workers to have the next chunk at hand; more would only be memory.
constexpr std::size_t least_window = 64;
constexpr std::size_t chunks_per_worker = 8;
/// Packed arguments under way, unless a single chunk is larger.
constexpr std::size_t most_bytes = 64 * 1024 * 1024;

/// Chunks in the order in which they ended. Outlives the range: stragglers still report here.
struct arrivals {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<task_ref> settled;
};

}  // namespace

struct imap_window::state {
  std::shared_ptr<pool_handle> pool;
  imap_order order;
  std::size_t chunk;
  source next_chunk;
  std::size_t most_chunks;
  bool exhausted = false;
  struct sent {
    task_ref task;
    std::size_t bytes;
  };
  std::deque<sent> under_way;  // ordered: the chunks; unordered: their sizes only
  std::size_t bytes = 0;
  std::size_t unordered_count = 0;
  std::shared_ptr<arrivals> arrived = std::make_shared<arrivals>();

  void fill() {
    while (!exhausted && count() < most_chunks && (bytes < most_bytes || count() == 0)) {
      task_ref next = next_chunk(*pool, chunk);
      if (!next) {
        exhausted = true;
        return;
      }
      const std::size_t size = next->payload().size();
      if (order == imap_order::unordered)
        next->on_settled([to = arrived, node = next.get(), size] {
          node->retain();
          std::lock_guard lock(to->mutex);
          to->settled.push_back(task_ref(node));
          node->set_admitted_bytes(size);
          to->changed.notify_one();
        });
      pool->submit(next);
      bytes += size;
      if (order == imap_order::unordered)
        ++unordered_count;
      else
        under_way.push_back({std::move(next), size});
    }
  }

  std::size_t count() const {
    return order == imap_order::unordered ? unordered_count : under_way.size();
  }

  task_ref take_ordered(std::optional<std::chrono::nanoseconds> timeout) {
    if (!under_way.front().task->wait(timeout)) return {};
    task_ref done = std::move(under_way.front().task);
    bytes -= under_way.front().bytes;
    under_way.pop_front();
    return done;
  }

  task_ref take_unordered(std::optional<std::chrono::nanoseconds> timeout) {
    if (runtime::on_loop_thread())
      throw error("reading imap_unordered on the loop thread would wait for itself");
    std::unique_lock lock(arrived->mutex);
    const auto any = [&] { return !arrived->settled.empty(); };
    if (!timeout)
      arrived->changed.wait(lock, any);
    else if (!arrived->changed.wait_for(lock, *timeout, any))
      return {};
    task_ref done = std::move(arrived->settled.front());
    arrived->settled.pop_front();
    bytes -= done->admitted_bytes();
    --unordered_count;
    return done;
  }
};

imap_window::imap_window(std::shared_ptr<pool_handle> pool, imap_order order, std::size_t chunk,
                         source next_chunk)
    : state_(std::make_unique<state>()) {
  if (chunk == 0) throw std::invalid_argument("imap needs chunks of at least one item");
  state_->most_chunks =
      std::max(least_window, chunks_per_worker * static_cast<std::size_t>(pool->processes()));
  state_->pool = std::move(pool);
  state_->order = order;
  state_->chunk = chunk;
  state_->next_chunk = std::move(next_chunk);
}

imap_window::imap_window(imap_window&&) noexcept = default;
imap_window& imap_window::operator=(imap_window&&) noexcept = default;
imap_window::~imap_window() = default;

task_ref imap_window::next(std::optional<std::chrono::nanoseconds> timeout) {
  state_->fill();
  if (state_->count() == 0) return {};
  task_ref done = state_->order == imap_order::unordered ? state_->take_unordered(timeout)
                                                         : state_->take_ordered(timeout);
  if (!done) throw timeout_error("the next item of imap was not there in time; ask again");
  return done;
}

}  // namespace carom::detail

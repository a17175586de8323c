// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <carom/detail/task_node.hpp>

namespace carom::detail {

/// Where submitted tasks wait for the loop: any thread pushes, the loop takes all. Lock-free; keeps
/// the order of each thread. Closing it is final.
class submit_queue {
 public:
  enum class pushed { quiet, ring, closed };

  /// Gives a reference to `node` to the queue, unless it is closed. `ring`: the loop must be told.
  pushed push(task_node* node) noexcept { return push(node, node); }
  /// The same for some nodes that `chained` has put together.
  pushed push(task_node* newest, task_node* oldest) noexcept {
    task_node* first = first_.load(std::memory_order_relaxed);
    do {
      if (first == closed_mark()) return pushed::closed;
      oldest->next_ = first;
    } while (!first_.compare_exchange_weak(first, newest, std::memory_order_seq_cst,
                                           std::memory_order_relaxed));
    return armed_.load(std::memory_order_seq_cst) &&
                   armed_.exchange(false, std::memory_order_seq_cst)
               ? pushed::ring
               : pushed::quiet;
  }

  /// Everything pushed so far, oldest first, as a chain through `next`.
  task_node* take_all() noexcept {
    if (!first_.load(std::memory_order_relaxed)) return nullptr;
    task_node* taken = first_.load(std::memory_order_relaxed);
    do {
      if (taken == closed_mark()) return nullptr;
    } while (!first_.compare_exchange_weak(taken, nullptr, std::memory_order_acquire,
                                           std::memory_order_relaxed));
    return reversed(taken);
  }

  /// Refuses what comes from now on; what was pushed before, as `take_all` gives it.
  task_node* close() noexcept {
    task_node* taken = first_.exchange(closed_mark(), std::memory_order_acq_rel);
    return taken == closed_mark() ? nullptr : reversed(taken);
  }

  bool closed() const noexcept { return first_.load(std::memory_order_acquire) == closed_mark(); }

  /// Asks to be told of the next push. False if something is there already; nobody tells then.
  bool arm() noexcept {
    armed_.store(true, std::memory_order_seq_cst);
    task_node* first = first_.load(std::memory_order_seq_cst);
    if (!first || first == closed_mark()) return true;
    armed_.store(false, std::memory_order_relaxed);
    return false;
  }

  static task_node* next(const task_node* node) noexcept { return node->next_; }
  /// Puts `node` behind those before it; what is to be pushed together.
  static task_node* chained(task_node* node, task_node* before) noexcept {
    node->next_ = before;
    return node;
  }

 private:
  static task_node* closed_mark() noexcept { return reinterpret_cast<task_node*>(1); }

  /// Nodes made one after the other often lie so, too. A guess that is wrong costs little.
  static void fetch_ahead(const task_node* node, const task_node* next) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(next);
    const std::uintptr_t step = at - reinterpret_cast<std::uintptr_t>(node);
    __builtin_prefetch(reinterpret_cast<const void*>(at + 6 * step));
  }

  static task_node* reversed(task_node* node) noexcept {
    task_node* oldest = nullptr;
    while (node) {
      task_node* next = node->next_;
      fetch_ahead(node, next);
      node->next_ = oldest;
      oldest = node;
      node = next;
    }
    return oldest;
  }

  alignas(64) std::atomic<task_node*> first_{nullptr};
  std::atomic<bool> armed_{true};
};

}  // namespace carom::detail

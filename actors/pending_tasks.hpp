// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace carom::actors {

/// Tasks that wait for a worker: the highest priority first, within one the oldest. Most tasks have
/// priority 0, whose queue is always there.
template <class Task>
class pending_tasks {
 public:
  void push_back(Task t, int priority) { queue(priority).push_back(t), ++size_; }
  void push_front(Task t, int priority) { queue(priority).push_front(t), ++size_; }

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

  /// Not of an empty one.
  Task front() const { return first().front(); }
  /// The one that will probably be at the front when `places` more have gone; Task() if none.
  Task ahead(std::size_t places) const {
    const deque& next = first();
    return places < next.size() ? next[places] : Task();
  }
  void pop_front() {
    first().pop_front();
    --size_;
    if (!others_.empty() && others_.begin()->second.empty()) others_.erase(others_.begin());
  }

  /// All of them, in order.
  std::vector<Task> take_all() {
    std::vector<Task> all;
    all.reserve(size_);
    while (!empty()) {
      all.push_back(front());
      pop_front();
    }
    return all;
  }

 private:
  using deque = std::deque<Task>;

  deque& queue(int priority) { return priority == 0 ? usual_ : others_[priority]; }
  const deque& first() const {
    // Queues of other priorities are never empty.
    const auto top = others_.begin();
    return top != others_.end() && (top->first > 0 || usual_.empty()) ? top->second : usual_;
  }
  deque& first() { return const_cast<deque&>(std::as_const(*this).first()); }

  deque usual_;
  std::map<int, deque, std::greater<>> others_;
  std::size_t size_ = 0;
};

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace carom::actors {

/// A line of workers, each in it at most once, that any of them may leave or jump at no cost: a
/// ring of links, one for each worker, whose first belongs to nobody.
class hungry_line {
 public:
  using worker_index = std::uint32_t;

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  bool holds(worker_index w) const { return link(w) < links_.size() && links_[link(w)].listed; }

  /// Not of an empty one.
  worker_index front() const { return links_[0].next - 1; }
  void pop_front() { leave(front()); }

  /// Stands before all the others from now on.
  void to_front(worker_index w) {
    leave(w);
    insert(w, 0);
  }
  /// Stands behind all the others, unless it is in the line already.
  void to_back(worker_index w) {
    if (!holds(w)) insert(w, links_[0].previous);
  }
  void leave(worker_index w) {
    if (!holds(w)) return;
    links& gone = links_[link(w)];
    links_[gone.previous].next = gone.next;
    links_[gone.next].previous = gone.previous;
    gone.listed = false;
    --size_;
  }

 private:
  struct links {
    std::uint32_t previous = 0;
    std::uint32_t next = 0;
    bool listed = false;
  };

  static std::uint32_t link(worker_index w) { return w + 1; }
  void insert(worker_index w, std::uint32_t behind) {
    if (link(w) >= links_.size()) links_.resize(link(w) + std::size_t{1});
    const std::uint32_t next = links_[behind].next;
    links_[link(w)] = {behind, next, true};
    links_[behind].next = links_[next].previous = link(w);
    ++size_;
  }

  std::vector<links> links_ = std::vector<links>(1);
  std::size_t size_ = 0;
};

}  // namespace carom::actors

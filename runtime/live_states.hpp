// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <carom/errors.hpp>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// The states of one kind that live in this process, by the memory that they map. Handles on one
/// object that arrive one after the other share one state so: what a thread has locked through one
/// of them it may unlock through another, and the last of all is known to be the last.
/// Thread-safe; a forked copy goes on with what it has inherited, which has lost its descriptor
/// there unless that was kept.
template <class State>
class live_states {
 public:
  static live_states& instance() {
    static auto* const one = new live_states;
    return *one;
  }

  /// The state over the memory of `fd`, which it is given for the case that it has lost its own; if
  /// there is none, what `make(unique_fd)` returns.
  template <class Make>
  std::shared_ptr<State> find_or_make(unique_fd fd, Make make) {
    const identity id = identity_of(fd.get());
    const std::lock_guard lock(mutex_);
    if (const auto found = known_.find(id); found != known_.end())
      if (auto live = found->second.lock()) {
        live->renew(fd.release());
        return live;
      }
    std::shared_ptr<State> made = make(std::move(fd));
    insert(id, made);
    return made;
  }

  /// Another number in each forked copy.
  unsigned fork() const noexcept { return fork_.load(std::memory_order_relaxed); }

  /// One that was made here.
  void add(const std::shared_ptr<State>& made, int fd) {
    const identity id = identity_of(fd);
    const std::lock_guard lock(mutex_);
    insert(id, made);
  }

 private:
  using identity = std::pair<dev_t, ino_t>;

  live_states() {
    // A process may be forked while another thread is in here; its copy has to get in, too.
    ::pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                     [] {
                       instance().fork_.fetch_add(1, std::memory_order_relaxed);
                       instance().mutex_.unlock();
                     });
  }

  static identity identity_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0)
      throw encoding_error("the descriptor of an object in shared memory did not arrive");
    return {status.st_dev, status.st_ino};
  }

  /// A state that lives keeps its memory, whose number is nobody else's. Those that are gone are
  /// swept out when there may be as many as live.
  void insert(const identity& id, const std::shared_ptr<State>& made) {
    known_[id] = made;
    if (known_.size() < sweep_at_) return;
    std::erase_if(known_, [](const auto& one) { return one.second.expired(); });
    sweep_at_ = std::max(least_sweep, 2 * known_.size());
  }

  static constexpr std::size_t least_sweep = 64;

  std::atomic<unsigned> fork_{0};
  std::mutex mutex_;
  std::map<identity, std::weak_ptr<State>> known_;
  std::size_t sweep_at_ = least_sweep;
};

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include <carom/wait.hpp>

#include <carom/this_task.hpp>
#include <stdexcept>
#include <string>

#include "runtime/connection_state.hpp"
#include "runtime/listener_state.hpp"
#include "runtime/socket_wait.hpp"

namespace carom {
namespace {

using access = detail::connection_access;
using runtime::deadline;

/// One call of wait: which descriptors stand for which object.
class waiting {
 public:
  explicit waiting(std::span<const waitable> objects) : objects_(objects) {
    ready_.resize(objects.size());
  }

  /// What is ready without the kernel being asked, and what is to be asked. True if there is any.
  bool prepare() {
    polled_.clear();
    owners_.clear();
    until_.reset();
    // Listeners go ahead of all: while one does, the descriptors of its clients change.
    for (const waitable& object : objects_)
      if (listener* const one = access::listener_of(object)) {
        runtime::listener_state& state = access::state(*one);
        if (state.advance()) until_ = std::chrono::steady_clock::now();
        until_ = runtime::earlier(until_, state.next_deadline());
      }
    bool any = false;
    for (std::size_t i = 0; i != objects_.size(); ++i) {
      if (prepare_one(i)) any = ready_[i] = true;
      owners_.resize(polled_.size(), i);
    }
    return any;
  }

  /// Asks the kernel; true if anything has become ready.
  bool poll(const deadline& until) {
    bool any = false;
    runtime::wait_for_events(polled_, runtime::earlier(until, until_));
    for (std::size_t k = 0; k != polled_.size(); ++k) {
      if (polled_[k].revents == 0) continue;
      const std::size_t i = owners_[k];
      if (polled_[k].revents & POLLNVAL)
        throw std::invalid_argument("wait: " + std::to_string(polled_[k].fd) +
                                    " is no open descriptor");
      if (confirm(i)) any = ready_[i] = true;
    }
    return any;
  }

  std::vector<std::size_t> positions() const {
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i != ready_.size(); ++i)
      if (ready_[i]) all.push_back(i);
    return all;
  }

 private:
  bool prepare_one(std::size_t i) {
    if (const connection* const one = access::connection_of(objects_[i])) {
      auto& state = runtime::receiver_of(access::state(*one));
      if (state.in.ended || runtime::is_broken(state)) return true;  // recv throws at once
      polled_.push_back({state.socket.get(), POLLIN, 0});
      return false;
    }
    if (listener* const one = access::listener_of(objects_[i])) {
      runtime::listener_state& state = access::state(*one);
      state.add_to(polled_);
      return state.has_ready();
    }
    const int fd = access::fd_of(objects_[i]);
    if (fd < 0) throw std::invalid_argument("wait: a descriptor is -1: is its owner empty?");
    polled_.push_back({fd, POLLIN, 0});
    return false;
  }

  /// Whether what the kernel says of one of its descriptors makes the object ready.
  bool confirm(std::size_t i) {
    if (const connection* const one = access::connection_of(objects_[i])) {
      auto& state = runtime::receiver_of(access::state(*one));
      return !runtime::has_skipped(state) ||
             runtime::wait_to_receive(state, std::chrono::steady_clock::now());
    }
    if (listener* const one = access::listener_of(objects_[i])) {
      runtime::listener_state& state = access::state(*one);
      if (!state.needs_handshakes()) return true;
      state.advance();
      return state.has_ready();
    }
    return true;
  }

  std::span<const waitable> objects_;
  std::vector<bool> ready_;
  std::vector<pollfd> polled_;
  std::vector<std::size_t> owners_;
  deadline until_;  // when a listener has something to do
};

}  // namespace

std::vector<std::size_t> detail::wait(std::span<const waitable> objects,
                                      std::optional<std::chrono::nanoseconds> timeout) {
  const deadline until = runtime::deadline_after(timeout);
  waiting all(objects);
  if (objects.empty()) return {};
  for (;;) {
    this_task::checkpoint();
    const bool already = all.prepare();
    const bool ready = all.poll(already ? deadline(std::chrono::steady_clock::now()) : until);
    if (already || ready) return all.positions();
    if (until && *until <= std::chrono::steady_clock::now()) return {};
  }
}

}  // namespace carom

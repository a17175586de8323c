// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <functional>
#include <utility>

#include "runtime/log.hpp"

namespace carom::actors {

/// Says something in the log, whose logger is the application's and may throw.
template <class Say>
void say(Say&& words) noexcept {
  try {
    std::forward<Say>(words)(*log());
  } catch (...) {
    // There is nobody else to tell.
  }
}

/// What the loop does for a pool, where no exception may pass: it would end the host. One that
/// comes is a fault of ours, or there is no memory; it is logged. Says whether none came.
template <class F>
bool unless_it_throws(const char* where, F&& f) noexcept {
  try {
    std::forward<F>(f)();
    return true;
  } catch (const std::exception& e) {
    say([&](auto& log) { log.error("a fault inside of the pool ({}): {}", where, e.what()); });
  } catch (...) {
    say([&](auto& log) { log.error("a fault inside of the pool ({})", where); });
  }
  return false;
}

/// Calls what an application has given, if anything. What it throws is logged and changes nothing.
template <class... Ps, class... As>
void call_logged(const std::function<void(Ps...)>& callback, As&&... arguments) noexcept {
  if (!callback) return;
  try {
    callback(std::forward<As>(arguments)...);
  } catch (const std::exception& e) {
    say([&](auto& log) { log.error("a callback threw: {}", e.what()); });
  } catch (...) {
    say([&](auto& log) { log.error("a callback threw something that is no std::exception"); });
  }
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <functional>

#include "runtime/log.hpp"

namespace carom::actors {

/// Calls what an application has given, if anything. What it throws is logged and changes nothing.
template <class... Ps, class... As>
void call_logged(const std::function<void(Ps...)>& callback, As&&... arguments) {
  if (!callback) return;
  try {
    callback(std::forward<As>(arguments)...);
  } catch (const std::exception& e) {
    log()->error("a callback threw: {}", e.what());
  } catch (...) {
    log()->error("a callback threw something that is no std::exception");
  }
}

}  // namespace carom::actors

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>

namespace carom {

/// Runs a function somewhere: what `then` and a pool's options take to say where callbacks run.
/// Called on the loop thread, so it must not block. What it throws is logged.
using executor = std::function<void(std::function<void()>)>;

}  // namespace carom

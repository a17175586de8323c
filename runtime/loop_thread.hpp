// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::runtime {

/// Whether the calling thread runs a loop: it must not wait for what that loop brings.
bool on_loop_thread() noexcept;

/// In a copy that such a thread has forked: there is no loop here.
void leave_loop_thread() noexcept;

}  // namespace carom::runtime

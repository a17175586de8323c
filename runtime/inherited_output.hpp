// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::runtime {

/// In a forked copy, while it has one thread: drops what the original has written to its C streams
/// and to std::cout, std::clog and their wide brothers and not flushed, which is the original's to
/// write. That is done here and not by a flush before the fork, because a stream of the original
/// may be locked by a thread that waits for its input for ever, and std::cout by nobody while
/// another thread uses it. Other C++ streams of the program cannot be found.
void drop_inherited_output() noexcept;

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

#include "serialization/worker_messages.hpp"

namespace carom::runtime {

/// Bytes of resident memory that are this process's alone or copied on write (proc(5), statm:
/// resident without shared); 0 if the kernel does not say.
std::uint64_t own_memory() noexcept;
/// The same of another process, through a descriptor of its statm. Nothing once it has ended.
std::uint64_t memory_of(int statm) noexcept;

/// setrlimit(2), nice(2), sched_setaffinity(2) for this process, as the set-up says. Throws
/// std::system_error.
void apply_limits(const serialization::setup_message& setup);

}  // namespace carom::runtime

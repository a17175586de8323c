// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/code.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace carom::runtime {

/// A loaded module as it is told to other processes.
struct module_info {
  std::string build_id;
  std::string path;
};

/// How many modules this process has told of so far; grows as libraries are loaded.
std::size_t module_count() noexcept;
/// Module number `index`, below module_count().
module_info module_at(std::size_t index);
/// Looks at what is loaded now. Call it once before other processes are made.
void scan_modules();

/// In a copy of the peer from which its workers are forked: their host's modules are those that
/// this process knows, which `set_peer_modules` then need not look for.
void inherit_peer_modules();
/// The peer's modules, by which `resolve_code` understands its addresses: this process becomes
/// another's worker. The first `inherited` are those of `inherit_peer_modules`. A module that is
/// not loaded here is loaded from its path if it has the same build-id; otherwise what lies in it
/// is unknown_task. Throws std::length_error if not so many have been inherited.
void set_peer_modules(const std::vector<module_info>& modules, std::size_t inherited = 0);
void add_peer_module(const module_info& module);

/// An address as the host names it. Safe in a signal handler.
struct peer_address {
  std::uint32_t module = UINT32_MAX;  // UINT32_MAX: in none that the host knows
  std::uint64_t offset = 0;
};
peer_address peer_offset(std::uintptr_t address) noexcept;
/// What such an address, told by a worker, means here: function and offset, or module and offset.
std::string describe_code(peer_address where, bool is_return_address);

}  // namespace carom::runtime

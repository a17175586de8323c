// SPDX-License-Identifier: BSL-1.0
#include "runtime/exit_hook.hpp"

#include <stdlib.h>

#include <carom/detail/start_path.hpp>
#include <utility>

namespace carom::runtime {

namespace {

/// What the registration that is to run first calls: each has its own, as a process inherits those
/// of others. Never freed: it is wanted at the very end.
CAROM_START_DATA exit_hook* hook_now = nullptr;
/// The first one's, which most processes use.
CAROM_START_DATA exit_hook first_hook = nullptr;
CAROM_START_DATA bool first_is_taken = false;

CAROM_START_PATH void run_hook(int status, void* hook) {
  if (const exit_hook call = *static_cast<exit_hook*>(hook)) call(status);
}

}  // namespace

void register_exit_hook() {
  hook_now = std::exchange(first_is_taken, true) ? new exit_hook(nullptr) : &first_hook;
  ::on_exit(&run_hook, hook_now);
}

void forget_exit_hook() noexcept { hook_now = nullptr; }

CAROM_START_PATH void set_exit_hook(exit_hook hook) {
  if (hook_now == nullptr) register_exit_hook();
  *hook_now = hook;
}

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include "runtime/exit_hook.hpp"

#include <stdlib.h>

#include <carom/detail/start_path.hpp>

namespace carom::runtime {

namespace {

exit_hook hook_now = nullptr;
bool hook_registered = false;

void run_hook(int status, void*) {
  if (hook_now != nullptr) hook_now(status);
}

}  // namespace

void register_exit_hook() {
  ::on_exit(&run_hook, nullptr);
  hook_registered = true;
}

void forget_exit_hook() noexcept { hook_registered = false; }

CAROM_START_PATH void set_exit_hook(exit_hook hook) {
  hook_now = hook;
  if (!hook_registered) register_exit_hook();
}

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#include <carom/context.hpp>
#include <carom/errors.hpp>
#include <stdexcept>

#include "runtime/executable.hpp"
#include "runtime/own_process.hpp"

namespace carom {

void set_start_method(start_method method, bool force) {
  if (to_string(method) == "?") throw std::invalid_argument("there is no such start method");
  if (!runtime::own_process::instance().set_method(method, force))
    throw process_error(
        "the start method has been set already: set it once, at the start of the program, or say "
        "force");
}

void set_executable(const std::string& path) { runtime::set_executable(path); }

void forking_enable(bool enable) {
  if (!enable) set_start_method(start_method::spawn, true);
}

}  // namespace carom

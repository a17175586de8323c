// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/export.hpp>

namespace carom {

/// Starts the fork server. Write it as the first line of main, before any thread: workers are
/// copies of the process as it is at this moment. Calling it again does nothing. Throws
/// start_method_error if the process has more than one thread, std::system_error if processes
/// cannot be made (billiard: freeze_support).
CAROM_API void init(int argc, char** argv);

}  // namespace carom

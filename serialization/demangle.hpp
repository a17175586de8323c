// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

namespace carom::serialization {

/// The type's name as in source code; the mangled name when it cannot be told.
std::string demangle(const char* mangled);

}  // namespace carom::serialization

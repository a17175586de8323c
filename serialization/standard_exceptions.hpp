// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::serialization {

/// Enters the exceptions of the standard library and of carom in `detail::exception_types`.
void add_standard_exceptions() noexcept;

}  // namespace carom::serialization

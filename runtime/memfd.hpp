// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {

/// Empty anonymous memory that can be sealed, and never executed where the kernel knows that: some
/// are set up to refuse any other, or to seal it so themselves (vm.memfd_noexec). Close-on-exec and
/// above the standard descriptors. Empty, with errno, where there is none.
unique_fd make_memfd(const char* name) noexcept;

/// The same, `size` bytes long. Throws std::system_error: EFBIG where RLIMIT_FSIZE is less, which
/// would otherwise be answered by a deadly SIGXFSZ.
unique_fd make_memfd(const char* name, std::size_t size);

/// Whether RLIMIT_FSIZE allows memory of `size` bytes.
bool memfd_may_have(std::size_t size) noexcept;

}  // namespace carom::runtime

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <unistd.h>

#include "tests/pool/common.hpp"
#include "tests/support/board.hpp"

namespace tasks {

/// Says that it has begun, and never ends.
inline void for_ever() {
  carom::test::board::add(begun);
  for (;;) ::pause();
}

}  // namespace tasks

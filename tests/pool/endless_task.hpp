// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <unistd.h>

#include "tests/support/board.hpp"

namespace tasks {

/// Where tasks say that they have begun.
inline constexpr unsigned begun = 0;

/// Says so, and never ends.
inline void for_ever() {
  carom::test::board::add(begun);
  for (;;) ::pause();
}

}  // namespace tasks

// SPDX-License-Identifier: BSL-1.0
// Names that most tests of pools use. The files of this folder are compiled in batches, so what one
// defines for itself needs a name that no other has.
#pragma once

#include <cstddef>

/// Slots of the board.
inline constexpr unsigned begun = 0, release = 1, starts = 2;

inline constexpr std::size_t mib = 1 << 20;

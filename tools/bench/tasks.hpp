// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace bench {

/// The small task of most rows. Wraps around, as its arguments count up to millions.
inline int square(int x) {
  return static_cast<int>(static_cast<unsigned>(x) * static_cast<unsigned>(x));
}

inline void noop() {}

}  // namespace bench

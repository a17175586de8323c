// expect: carom: a lambda with captures .* pass what it captures as arguments
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>

int scale(carom::pool& pool, int factor) {
#ifdef FIXED
  return pool.apply([](int x, int by) { return x * by; }, 7, factor);
#else
  return pool.apply([factor](int x) { return x * factor; }, 7);
#endif
}

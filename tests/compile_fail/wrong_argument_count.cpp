// expect: carom: wrong number of arguments for this task
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>

int add(int a, int b) { return a + b; }

int use(carom::pool& pool) {
#ifdef FIXED
  return pool.apply(add, 3, 4);
#else
  return pool.apply(add, 3);
#endif
}

// expect: carom: a task is a function
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>

struct counter {
  int value = 0;
  int get() const { return value; }
};

int use(carom::pool& pool) {
#ifdef FIXED
  return pool.apply([] { return counter{}.get(); });
#else
  return pool.apply(&counter::value, 1);
#endif
}

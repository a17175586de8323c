// expect: carom: a task cannot take a reference to non-const
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>

#ifdef FIXED
int increment(int value) { return value + 1; }
#else
int increment(int& value) { return ++value; }
#endif

int use(carom::pool& pool, int value) { return pool.apply(increment, value); }

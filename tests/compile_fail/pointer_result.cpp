// expect: carom: a task returns a value: a reference or pointer means nothing
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>

int one = 1;
#ifdef FIXED
int find() { return one; }
int use(carom::pool& pool) { return pool.apply(find); }
#else
int* find() { return &one; }
int use(carom::pool& pool) { return *pool.apply(find); }
#endif

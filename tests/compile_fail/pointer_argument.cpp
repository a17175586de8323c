// expect: carom: a (raw )?pointer (means nothing in|cannot travel to) another process
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>

#ifdef FIXED
int look(const int& value) { return value; }
int use(carom::pool& pool, const int* value) { return pool.apply(look, *value); }
#else
int look(const int* value) { return *value; }
int use(carom::pool& pool, const int* value) { return pool.apply(look, value); }
#endif

// expect: carom: a raw pointer cannot travel to another process
// SPDX-License-Identifier: BSL-1.0
#include <carom/connection.hpp>

#ifdef FIXED
int use(carom::connection& c) { return c.recv<int>(); }
#else
int use(carom::connection& c) { return *c.recv<int*>(); }
#endif

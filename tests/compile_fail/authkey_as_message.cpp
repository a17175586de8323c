// expect: carom: an authkey cannot travel to another process
// SPDX-License-Identifier: BSL-1.0
#include <carom/connection.hpp>

#ifdef FIXED
void use(carom::connection& c, int value) { c.send(value); }
#else
void use(carom::connection& c, const carom::authkey& value) { c.send(value); }
#endif

// expect: carom: a pointer in shared memory means nothing to another process
// SPDX-License-Identifier: BSL-1.0
#include <carom/shared.hpp>

#ifdef FIXED
carom::array<int> use() { return carom::array<int>(3); }
#else
carom::array<const char*> use() { return carom::array<const char*>(3); }
#endif

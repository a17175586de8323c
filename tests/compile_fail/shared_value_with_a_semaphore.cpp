// expect: no matching function for call to .*value<int>::value.int, carom::semaphore
// SPDX-License-Identifier: BSL-1.0
#include <carom/shared.hpp>
#include <carom/sync.hpp>

#ifdef FIXED
carom::value<int> use() { return carom::value<int>(7, carom::lock()); }
#else
carom::value<int> use() { return carom::value<int>(7, carom::semaphore(1)); }
#endif

// expect: carom: a value or array in shared memory has to be trivially copyable, .*shared_heap
// SPDX-License-Identifier: BSL-1.0
#include <carom/shared.hpp>
#include <string>

#ifdef FIXED
carom::value<int> use() { return carom::value<int>(7); }
#else
carom::value<std::string> use() { return carom::value<std::string>("seven"); }
#endif

// expect: carom: an argument does not convert to the task's parameter type
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <string>

std::size_t length(const std::string& text) { return text.size(); }

std::size_t use(carom::pool& pool) {
#ifdef FIXED
  return pool.apply(length, "seven");
#else
  return pool.apply(length, std::pair{7, 7});
#endif
}

// expect: carom: this task cannot be called with these arguments
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <concepts>
#include <string>

int use(carom::pool& pool) {
  constexpr auto twice = [](std::integral auto x) -> int { return 2 * x; };
#ifdef FIXED
  return pool.apply(twice, 7);
#else
  return pool.apply(twice, std::string("seven"));
#endif
}
